"""The gateway's keys: TLS ended for the hosts of secrets alone, and values put in there (E11).

:mod:`stockade.toolkit.egress` loads it where a session has secrets; nothing else has to know it.
``vault`` reads values, ``authority`` makes certificates, ``placeholders`` what stands inside in a
value's place; ``requests`` puts values in, ``masking`` and ``bodies`` take them out of answers,
``tls`` and ``exchange`` carry both, ``ssh`` signs for logins, ``opener`` joins them.
"""

from stockade_secrets.opener import Opener

__all__ = ["Opener"]
