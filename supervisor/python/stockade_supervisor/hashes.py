"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "fb5630b1c6db63deeb460d4d4062232afc7b9c6d792528acebafe02af5d44e37",
    "x86_64": "0b11195ca950c185acdea466275ed3e61461c1b1b17e76c833fa8640b8f71583",
}
