"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "05f0c7d9b594b92d282ff16951bfd8ced554f672f48ccf93e0aaf09797ab07d3",
    "x86_64": "7677fbd9ec57784370ac8a1cc4217448eea1326feacbf8f531c6d1f2adbd78d6",
}
