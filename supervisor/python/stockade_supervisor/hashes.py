"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "5d57b9a9b8673d96909ec5d0eb78b0b0908f2e056ad83a441ab0dcdd2224c8c7",
    "x86_64": "2facdf8cd4e43c2b43207d533e25cef57b2d52355883574dcc4762b1551fa2be",
}
