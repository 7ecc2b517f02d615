"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "55ac2090c6c172771734b1ad6caa932bdb4a519ded2b3f3af0a5bad8b9961484",
    "x86_64": "e3079177eddf643912e711cc0d297533d454e801a5b070de6ea36563ad43d440",
}
