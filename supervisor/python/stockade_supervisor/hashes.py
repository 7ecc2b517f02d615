"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "fe5d59a1363c29608b40cafad28d66c92617edc6260da0829eb9a0acce3ec240",
    "x86_64": "ec763944fc367a98d63a360c77149ce52389c66f682bb9b039031bf204357d79",
}
