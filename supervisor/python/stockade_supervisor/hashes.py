"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "228bd153f908ccbe1455474bea3a4c004632c669894a6351d6efd67d308ed95a",
    "x86_64": "e0fbd0a7ca4d1901c25d6c48f2b67fa949a5beb989ce0fc2b868f573bc6c7425",
}
