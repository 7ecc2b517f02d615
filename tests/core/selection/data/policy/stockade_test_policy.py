"""Test data: hooks of the group stockade.plugins."""

from stockade.plugin import Refuse, hookimpl

STOCKADE_API_VERSION = 1


@hookimpl
def stockade_session_policy(proposal):
    if proposal.agent_id == "mallory":
        return Refuse("mallory runs nothing here")
    return None


@hookimpl
def stockade_event(event):
    print("event", event.kind)
