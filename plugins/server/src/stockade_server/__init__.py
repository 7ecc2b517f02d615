"""``stockade serve``: E2B's protocol in front of any installed wall.

    from stockade_server import Settings, Template, make_app

    app = make_app(Settings(templates={"base": Template(name="base", provider="local")}, keys=…))

The application is ASGI. What it serves, and what not, is in docs/server.md.
"""

from __future__ import annotations

from stockade_server.keys import Key, digest_of, new_key
from stockade_server.settings import Settings, Template, read_settings

__all__ = ["Key", "Settings", "Template", "digest_of", "make_app", "new_key", "read_settings"]


def __getattr__(name: str) -> object:
    # Starlette is imported where something is served, and not by each start of the command line.
    if name == "make_app":
        from stockade_server.app import make_app

        return make_app
    raise AttributeError(f"module 'stockade_server' has no attribute {name!r}")
