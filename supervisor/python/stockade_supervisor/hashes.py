"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "16ea87d95723d332db07aa8f97b9e9567aaedf4f895f74b9705297908b3500ef",
    "x86_64": "d28961553f4023e7998c003e93d971923e9814963d66cfaa14f7b9cf6aa760aa",
}
