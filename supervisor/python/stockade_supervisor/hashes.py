"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "001521218c5680283304619ac51a855049b34c9c6efd4dcb91b4fb87515d0ebb",
    "x86_64": "542f462a3e0af4257dffb574187152222f27874f7c0d2eabc8a5b81fa6be6aff",
}
