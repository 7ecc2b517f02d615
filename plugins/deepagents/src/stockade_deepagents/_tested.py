"""The versions of deepagents that the tests ran with; another one is warned of.

Imported before anything of deepagents: where another version lacks a name, this is said first.
"""

from __future__ import annotations

import warnings

from stockade.system.versions import untested

__all__ = ["TESTED"]

#: The first and the last.
TESTED = ("0.6.12", "0.7.32")

if (_said := untested("stockade-deepagents", "deepagents", *TESTED)) is not None:
    warnings.warn(_said, stacklevel=3)
