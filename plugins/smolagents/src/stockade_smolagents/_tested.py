"""The versions of smolagents that the tests ran with; another one is reported in the log.

Imported before anything of smolagents: where another version lacks a name, this is said first.
"""

from __future__ import annotations

import logging

from stockade.system.versions import untested

__all__ = ["TESTED"]

#: The first and the last.
TESTED = ("1.26.0", "1.26.0")

if (_said := untested("stockade-smolagents", "smolagents", *TESTED)) is not None:
    logging.getLogger(__name__).warning("%s", _said)
