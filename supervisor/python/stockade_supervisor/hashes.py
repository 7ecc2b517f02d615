"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "d5b752444547bed282d92a57b3c3c59b15fa35ff6003b815ee75d5ebff9c8282",
    "x86_64": "8d1bda01b1b8bf515cc46a2187ac7086aa9c52f774c1d03e021ed803ebaa80cb",
}
