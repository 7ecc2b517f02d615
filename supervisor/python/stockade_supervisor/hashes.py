"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "5845f9d12f080c97351887a84d6febfe9aa80f901242a167dfe16635e699acf6",
    "x86_64": "9e56c9d745a26cf39a42e6daa3e5b021d6996ec4fa1e8745f8f7e1484ef5d247",
}
