"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "cf49a40c197c11c2baf50b63b47834a9e64e75a2a040fff675598ae3355a786a",
    "x86_64": "9a539df9f98c0a781d62342bde77eb0f340125a48b946096dc43dd46bd0c9482",
}
