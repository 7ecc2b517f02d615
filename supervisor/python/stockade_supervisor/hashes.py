"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "d1b8a005b1340220380fbfef6fc6eaf856aa59767fb6bd990ec4f16de09bbfe0",
    "x86_64": "bf0759ceb75c8e39cea9b946527ecb21f2c456c609b3fea363649cfed74392b7",
}
