"""The versions of openai-agents that the tests ran with; another one is warned of.

Imported before anything of openai-agents: where another version lacks a name, this is said first.
"""

from __future__ import annotations

import warnings

from stockade.system.versions import untested

__all__ = ["TESTED"]

#: The first and the last.
TESTED = ("0.24.0", "0.24.0")

if (_said := untested("stockade-openai-agents", "openai-agents", *TESTED)) is not None:
    warnings.warn(_said, stacklevel=3)
