"""Whether a service is there, knows the key, and what it says of the template (A8)."""

from __future__ import annotations

import contextlib
from typing import Any

from stockade.wall import Check
from stockade_e2b.service import Service, words_of

__all__ = ["checks"]

_ASK_SECONDS = 10.0


def checks(service: Service, template: str) -> tuple[Check, ...]:
    """What was looked at; nothing is started."""
    from e2b import Sandbox
    from e2b.exceptions import AuthenticationException

    try:
        Sandbox.list(limit=1, request_timeout=_ASK_SECONDS, **service.options).next_items()
    except AuthenticationException as error:
        remedy = "set E2B_API_KEY, or key_file, to a key of this service"
        return (Check("key", False, f"{service.name}: {words_of(error)}", remedy),)
    except Exception as error:
        remedy = "see that the service runs and is reached, and name it by api_url or domain"
        said = f"{service.name}: {words_of(error)}"
        return (Check("service", False, said, remedy, transient=True),)
    found = _template(service, template)
    said = f"{template}: its figures show once a session is open, in session.limits"
    return (
        Check("service", True, f"{service.name} knows the key"),
        Check("template", True, said if found is None else f"{template}: {_figures(found)}"),
    )


def _template(service: Service, name: str) -> Any:
    """What the service lists of a template, among the account's own and its own; or None."""
    from e2b.api.client.api.templates import get_default_templates, get_templates
    from e2b.api.client_sync import get_api_client
    from e2b.connection_config import ConnectionConfig

    config = ConnectionConfig(**service.options, request_timeout=_ASK_SECONDS, retries=0)
    client = get_api_client(config)
    for listing in (get_templates, get_default_templates):
        found: Any = None
        with contextlib.suppress(Exception):  # not every service has these lists
            found = listing.sync(client=client)
        for one in found if isinstance(found, list) else ():
            if name in (one.template_id, *one.aliases, *one.names):
                return one
    return None


def _figures(found: Any) -> str:
    words = {
        "MiB of memory": found.memory_mb,
        "cpus": found.cpu_count,
        "MiB of disk": found.disk_size_mb,
        "processes": found.additional_properties.get("maxProcesses"),
    }
    return ", ".join(f"{value} {word}" for word, value in words.items() if value)
