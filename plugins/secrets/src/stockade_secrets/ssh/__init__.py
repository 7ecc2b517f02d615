"""Keys that sign for connections to named hosts, and stay with this process (E11).

``wire`` takes messages apart, ``known`` says which keys hosts have, ``keys`` signs and verifies,
``greeting`` watches how a server shows its key in a tunnel, ``agent`` speaks to programs inside,
``desk`` joins them.
"""

from stockade_secrets.ssh.desk import Desk

__all__ = ["Desk"]
