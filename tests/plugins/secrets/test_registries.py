"""Registries that demand a key, used from inside (E11)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from plugins.secrets.inside import opened, programs
from plugins.secrets.registries import MANIFEST, Registry
from plugins.secrets.servers import KEY, Certified, KeyServer


@pytest.fixture
def registry(files: Certified, trusted: Path) -> Iterator[KeyServer]:
    made = KeyServer(files, Registry)
    yield made
    made.close()


def test_npm_installs_from_a_private_registry(wall: str, registry: KeyServer) -> None:
    """By the line that npm's own manual has for a token."""
    with opened(wall, registry.port) as session:
        programs(session, "npm", "node")
        place = f"//api.example:{registry.port}/npm/"
        lines = f"""
            set -e
            printf 'registry=https:{place}\\n{place}:_authToken=${{API_KEY}}\\n' > .npmrc
            npm install --no-audit --no-fund --loglevel=error private-thing
            node -p 'require("private-thing")'
        """
        result = session.shell(lines, timeout=120)
        assert result.success and result.stdout.endswith("found\n"), result.stderr
        assert KEY not in session.shell("cat .npmrc package-lock.json").stdout


_PULL = """
set -e
url=https://api.example:{port}
realm=$(curl -sSi $url/v2/ | sed -n 's/.*realm="\\([^"]*\\)".*/\\1/p')
given=$(curl -sSf -u "user:$API_KEY" "$realm?service=here&scope=repository:thing:pull")
token=$(echo "$given" | sed 's/.*"token": "\\([^"]*\\)".*/\\1/')
curl -sSf -H "Authorization: Bearer $token" $url/v2/thing/manifests/latest
"""


def test_a_registry_of_images_gives_a_token(wall: str, registry: KeyServer) -> None:
    """As docker, podman, skopeo and crane log in: the key for a token, the token for an image."""
    with opened(wall, registry.port) as session:
        programs(session, "curl")
        result = session.shell(_PULL.format(port=registry.port), timeout=60)
        assert result.stdout_bytes == MANIFEST, result
        refused = session.shell(_PULL.format(port=registry.port).replace("API_KEY", "HOME"))
        assert refused.exit_code == 22, "without the placeholder there is no token"
