"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "7fcf4faf5e21ac3c2104a34358042441db4210ee509d533be3067ca177b64a3c",
    "x86_64": "15cf4bf60fb94f4f816c0a8f8ad4674cf2e93eda21af20f28edc71677cd0ceff",
}
