"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "99db4969102cb550fbee9143150932fba1048cdfd8c457674ef3ae9b05b6dc95",
    "x86_64": "fba6cbe81cf6c41f5bc7f4820c453e9157cfebe26b5cf1db5dc258fc9c8cef47",
}
