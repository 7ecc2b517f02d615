"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "f345f9ee75903332cacfe5a5d7a280e84946cf114728b7822f6dd38aa8435f33",
    "x86_64": "daf31d421553bdb95cb972d82b1cc201b9a882dc94e80da429fb413ca309adca",
}
