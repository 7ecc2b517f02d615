"""The page for plug-in authors: what to write, and where it is called.

A distribution registers a wall with an entry point

    [project.entry-points."stockade.providers"]
    mywall = "stockade_mywall.plugin"

that names a module such as this one:

    from stockade.plugin import hookimpl

    STOCKADE_API_VERSION = 1

    @hookimpl
    def stockade_wall():
        from stockade_mywall.wall import MyWall
        return MyWall

Policies, observers and whatever else is no wall are registered in the same way in the group
``stockade.plugins``; such a module implements any of the other hooks below. So may a provider's
module: they are heard from when its name is first selected.

All are registered in one pluggy manager of a runtime, and what pluggy's documentation says holds:
the newest is called first, ``tryfirst`` and ``trylast`` move it, ``wrapper=True`` stands around the
others, an implementation may leave arguments out. What one raises is dealt with where it happens,
as each hook says, and a wrapper that fails counts as an implementation that does.
``STOCKADE_DISABLED_PLUGINS`` names those that are not loaded at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from stockade._proposals import (
    ExecutionProposal,
    JudgedExecution,
    Refuse,
    RequestProposal,
    SessionProposal,
    Tighten,
)
from stockade.capabilities import Capabilities, Feature, Isolation, Level, Support
from stockade.config import SandboxConfig
from stockade.events import Event, EventKind
from stockade.results import SandboxResult
from stockade.wall import Check, Language, Wall

if TYPE_CHECKING:
    import click

__all__ = [
    "EMBEDDED_GROUP",
    "PLUGIN_API_VERSION",
    "PLUGIN_GROUP",
    "PROVIDER_GROUP",
    "Capabilities",
    "Check",
    "Event",
    "EventKind",
    "ExecutionProposal",
    "Feature",
    "Isolation",
    "JudgedExecution",
    "Language",
    "Level",
    "Refuse",
    "RequestProposal",
    "SandboxResult",
    "SessionProposal",
    "Support",
    "Tighten",
    "hookimpl",
]

#: The interface between core and plug-ins; a plug-in states the one it was written
#: for as ``STOCKADE_API_VERSION``. It changes when a plug-in would have to.
PLUGIN_API_VERSION = 1
#: The entry-point group of walls.
PROVIDER_GROUP = "stockade.providers"
#: The entry-point group in which a wall that needs no daemon, no image and no root states its
#: name once more, with the same module: then ``local`` stands for it, too.
EMBEDDED_GROUP = "stockade.embedded"
#: The entry-point group of policies and observers.
PLUGIN_GROUP = "stockade.plugins"

hookspec = pluggy.HookspecMarker("stockade")
#: Marks a function or method as the implementation of the hook of its name; see pluggy.
hookimpl = pluggy.HookimplMarker("stockade")


class ProviderHooks:
    """The hook of the group ``stockade.providers``."""

    @hookspec(firstresult=True)
    def stockade_wall(self) -> type[Wall]:  # type: ignore[empty-body]
        """Return the Wall class that this entry point registers.

        Called by core once for each runtime, when the provider's name is first selected, in
        the selecting thread; of all that are registered the named one's alone is called. What
        it raises becomes a PluginError that names the distribution and the entry point; other
        providers stay usable, and nothing of the module stays registered (A6).
        """


class SystemHooks:
    """The hooks of the group ``stockade.plugins``: policies and observers."""

    @hookspec
    def stockade_session_policy(self, proposal: SessionProposal) -> SandboxConfig | Refuse | None:
        """Judge a session before anything of it is created.

        Called by core in the thread that opens the session, for every plug-in in pluggy's
        order, each seeing what the one before left. Return None to agree, a tighter
        SandboxConfig, or ``Refuse(reason)``, which ends the asking. A looser configuration,
        and anything raised, refuses the session (PolicyError). A wrapper may watch, and refuse
        by raising; what it returns is not used, and no refusal can be undone by it.
        """

    @hookspec
    def stockade_execution_policy(self, proposal: ExecutionProposal) -> Tighten | Refuse | None:
        """Judge a request before it is executed, or a terminal before it is opened.

        Called by core in the calling thread, as above. Return None to agree,
        ``Tighten(...)`` for a shorter deadline or a smaller output, or
        ``Refuse(reason)``. Anything raised refuses the request (PolicyError).
        """

    @hookspec
    def stockade_request(self, proposal: RequestProposal) -> Refuse | None:
        """Judge what a program asks of a host, before anything of it leaves.

        Called by core for each request that the allow-list lets pass, in the thread that carries
        it, so that it may come while others are asked. Where a secret goes, the gateway reads the
        request: method, path and the names of its secrets are there, and values never are. Of
        other hosts it sees the tunnel alone. Return None to agree, or ``Refuse(reason)``, which
        the program is given as an answer; anything raised refuses it, too.
        """

    @hookspec(firstresult=True)
    def stockade_execution(self, execution: JudgedExecution) -> SandboxResult | None:
        """Middleware: stand around an execution, or answer it in the sandbox's place.

            @hookimpl(wrapper=True)
            def stockade_execution(self, execution):
                result = yield                  # the program runs, or another middleware answers
                return attrs.evolve(result, stdout_bytes=redacted(result.stdout_bytes))

        Core calls it for each execution that every policy let pass, in the execution's own
        thread. That includes the programs by which core reaches files, and excludes terminals
        and other file calls. Core's own implementation runs the program, and is the last. An
        implementation that is no wrapper may return a result, and then no program runs. None
        passes the execution on.

        It may read the request and the result, including secrets in them. It may wait, answer
        without the program, change the result, and raise. It cannot change the request, since
        the policies judged that. It sees nothing that a policy refused. It cannot lengthen a
        deadline: its time counts. If the deadline, a cancel or the session's end comes while it
        works, the caller has that verdict at once, with no output. What it does then is not
        used. A live reader gets output as it comes, unless it called
        ``execution.hold_output()``. The ``partial`` of a SandboxLostError that comes at the
        ``yield`` is output, too.

        An error of :mod:`stockade.errors` that it raises reaches the caller unchanged, and any
        other as a MiddlewareError. Before the ``yield`` the program has not been started. The
        session goes on, and a sandbox that was lost stays lost, whatever it returns.
        """

    @hookspec
    def stockade_event(self, event: Event) -> None:
        """Take note of a change of a session or an execution.

        Core calls it in the thread of the change, right after it. Return quickly. Core logs
        what it raises, which changes nothing, and calls the other observers, too.
        """

    @hookspec
    def stockade_languages(self) -> Sequence[Language] | None:
        """Languages that code may be in, beside or in place of core's own six.

        Called by core once after plug-ins were registered, when code is first to be executed,
        in that caller's thread. Core's own implementation is the last; of two languages with
        one name the first in pluggy's order is taken. What it raises, or an answer that is no
        list of languages with names and programs, is logged, and it brings none.
        """

    @hookspec(historic=True)
    def stockade_add_commands(self, group: click.Group) -> None:
        """Add commands to the command line, or options to those that are there.

            @hookimpl
            def stockade_add_commands(group):
                group.add_command(my_command)

        Called by the ``stockade`` command, in the main thread, before it reads its arguments;
        never by programs that use stockade otherwise. Core's own commands are added first, by an
        implementation of its own. The hook is historic: who is registered later is called then.
        What it raises is logged, and its commands are missing; ``stockade plugins`` works all
        the same.
        """

    @hookspec
    def stockade_doctor_checks(self) -> Sequence[Check] | None:
        """Look whether what the plug-in needs is there, as ``Wall.probe`` does for a wall.

        Called by ``stockade doctor`` where no wall is named, in the main thread, with no bound
        in time but the user's patience. A check that is not ok lets doctor exit with 1. What it
        raises is shown as such a check.
        """

    @hookspec
    def stockade_report_sections(self, report: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Add sections to a conformance report: titles, and data that JSON can hold.

        Called when a report is begun, by ``stockade conformance`` and by the suite under pytest,
        in the main thread. ``report`` is what the report's JSON will be, without checks yet; it
        may be published, so put no secret in. What it raises, or data that JSON cannot hold, is
        logged, and nothing is added.
        """
