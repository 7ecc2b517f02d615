"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "9246c8b882e9d1166329ae3499eb730527caa96746ab372c4be9ba94da466552",
    "x86_64": "a85471f4a507f76e3b5be81d0c679e5b5c1782e55020b8f77598cf24f643dff4",
}
