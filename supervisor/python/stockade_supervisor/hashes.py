"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "6867e151c4f893298a634e5cb073f498b5b9793de2c9f9332bfa1c4d650bc448",
    "x86_64": "b021601af2b3860aa9e5a9e088ec26a26b0a425fb1064169a0dd72b4eb503fb2",
}
