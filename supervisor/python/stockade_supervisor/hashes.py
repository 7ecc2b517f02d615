"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "7ad4ba58d4c8e3a74fdb5d0d390aca78c21ada76714b2c57025283d38d42fe17",
    "x86_64": "772add9000c51042f259699970791a3fb27055a949091699f69da364fa105da7",
}
