"""The versions of inspect-ai that the tests ran with; another one is reported in the log.

Imported before anything of inspect-ai: where another version lacks a name, this is said first.
"""

from __future__ import annotations

import logging

from stockade.system.versions import untested

__all__ = ["TESTED"]

#: The first and the last.
TESTED = ("0.3.285", "0.3.285")

if (_said := untested("stockade-inspect", "inspect-ai", *TESTED)) is not None:
    logging.getLogger(__name__).warning("%s", _said)
