"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "0c527435a35441f6d26b88ff0573508101f57a2fee2b4fb8d98c86332e2399f3",
    "x86_64": "6734f12dd18cebd9bd9abb65086f3c9103e92a01affc0e77e22c7ac82f95812e",
}
