"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "001521218c5680283304619ac51a855049b34c9c6efd4dcb91b4fb87515d0ebb",
    "x86_64": "5effc21a627c0c777d548227c444db6fc45fb9ecce8090834d67540ed4df90ba",
}
