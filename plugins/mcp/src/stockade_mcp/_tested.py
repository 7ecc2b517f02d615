"""The versions of mcp that the tests ran with; another one is warned of.

Imported before anything of mcp: where another version lacks a name, this is said first.
"""

from __future__ import annotations

import warnings

from stockade.system.versions import untested

__all__ = ["TESTED"]

#: The first and the last.
TESTED = ("2.3.0", "2.3.0")

if (_said := untested("stockade-mcp", "mcp", *TESTED)) is not None:
    warnings.warn(_said, stacklevel=3)
