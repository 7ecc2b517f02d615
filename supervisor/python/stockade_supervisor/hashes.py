"""The hashes of what is shipped; written by build.py."""

from __future__ import annotations

HASHES: dict[str, str] = {
    "aarch64": "3f9d363d43b7bc788e0a7610bc273bc50072d891868213c4ee96a70059a7bae7",
    "x86_64": "d3700f3199bf3814b51c1dd8ccfa47fdc3cba4ab373391ddf45e85523a0b29de",
}
