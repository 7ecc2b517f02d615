"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "e7711caba212269e327a7a432db7bc9add1b5ca3afd3104e0a562b256aeb5f11",
    "x86_64": "1bd4d8c4e86688179a8848b5434d47b72f37ff201052c1e2c57f4c300aded496",
}
