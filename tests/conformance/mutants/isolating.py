"""Mutants of E, F and G: walls that hold nothing of what they claim, and broken transfers."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from typing import Any

import attrs
import pytest

from conformance.mutants.base import Mutant, NoWall, Patch, PlainSandbox, string_suite, suite
from conformance.mutants.executing import DropsTheEnd, LosesInput, _ends, _on, _one_code
from conformance.mutants.selecting import _core
from stockade.toolkit.egress import Names, Private
from stockade.toolkit.supervised import ports
from stockade.wall import ExecRequest, OpenRequest, Output, Running


class SaysYes(PlainSandbox):
    """Every program succeeds, and none runs."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        return super().spawn(attrs.evolve(request, argv=("true",)))


class SharesItsFolders(PlainSandbox):
    """All sessions work in one folder."""

    _shared: str | None = None

    def __init__(self, request: OpenRequest) -> None:
        super().__init__(request)
        cls = SharesItsFolders
        folder = self._folders[request.config.working_dir]
        if cls._shared is None or not os.path.isdir(cls._shared):
            cls._shared = folder
        else:
            os.rmdir(folder)
            os.symlink(cls._shared, folder)


class Lacks(NoWall):
    """Has nothing of this name."""

    word = ""

    def start(self, request: ExecRequest, output: Output) -> Running:
        script = request.script.replace(self.word, f"{self.word}-not-there")
        return super().start(attrs.evolve(request, script=script), output)


def _lacks(word: str) -> type[Lacks]:
    return type("Lacks", (Lacks,), {"word": word})


class SharesAUser(NoWall):
    """All sessions run as one user, without the capability that lifts its quotas."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        argv = ("setpriv", "--inh-caps=-all", "--bounding-set=-all", "--", *request.argv)
        return super().spawn(attrs.evolve(request, argv=argv))


class TakesTheCpu(PlainSandbox):
    """No limit, and before all others where this user may: seen on a busy machine too."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        line = '(renice -n -19 $$; echo -19 > /proc/self/autogroup) >/dev/null 2>&1; exec "$@"'
        return super().spawn(attrs.evolve(request, argv=("sh", "-c", line, "sh", *request.argv)))


class CopiesLinks(PlainSandbox):
    """What should be a hard link is another file."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        line = 'ln() { case $1 in -s) command ln "$@";; *) cp "$@";; esac; }; ' + request.argv[-1]
        return super().spawn(attrs.evolve(request, argv=(*request.argv[:-1], line)))


class WritesElsewhere(PlainSandbox):
    """A folder more to write to: one of its own, so that no host is harmed."""

    own = ("/tmp", "/opt")


class PublishesNothing(NoWall):
    """Says that it published, and no program of it finds its machine."""

    def start(self, request: ExecRequest, output: Output) -> Running:
        hosts = "for host in ():"
        script = re.sub("for host in .*:", hosts, request.script)
        return super().start(attrs.evolve(request, script=script), output)


class Pauses(PlainSandbox):
    """Says that it paused."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class LosesModes(PlainSandbox):
    """Nothing that is written is executable."""

    def spawn(self, request: ExecRequest) -> subprocess.Popen[bytes]:
        line = '"$@"; c=$?; find . -type f -exec chmod a-x {} +; exit $c'
        return super().spawn(attrs.evolve(request, argv=("sh", "-c", line, "sh", *request.argv)))


class LosesTheEndOfInput(PlainSandbox):
    def serve(self, process: Any, request: ExecRequest, output: Any) -> Any:
        return super().serve(process, attrs.evolve(request, stdin=request.stdin[:-1]), output)


def _words_alone(top: Any, parts: list[str], target: str) -> str:
    """As if no word of a link could be a link itself, in this tree or in a later one."""
    if os.path.normpath(os.path.join("/top", *parts[:-1], target)).startswith("/top"):
        return target
    raise ValueError(f"it is a link to {target!r}, which leads out")


def _claims(
    check: str,
    name: str,
    sandbox: type[PlainSandbox] = NoWall,
    says: str = "",
    patch: Patch = lambda _: None,
    **more: Any,
) -> Mutant:
    """A claim with nothing behind it; the base is no wall, so there is no control."""
    made = functools.partial(suite, sandbox, **more)
    return Mutant(name=name, check=check, make=made, says=says, patch=patch)


def _any_port(patch: pytest.MonkeyPatch) -> None:
    """An entry for one port of a name opens all of them."""
    patch.setattr(Names, "check", lambda _, host, port: host)
    patch.setattr(Names, "private", lambda *_: Private.of("loopback"))


def _everywhere(patch: pytest.MonkeyPatch) -> None:
    """A published port is everybody's."""
    patch.setattr(ports, "_HOST", "0.0.0.0")


def _one_way(patch: pytest.MonkeyPatch) -> None:
    """Who has said all is answered no more."""
    inward = ports._Passage._inward

    def broken(passage: ports._Passage, *args: Any) -> None:
        inward(passage, *args)
        passage.break_off()

    patch.setattr(ports._Passage, "_inward", broken)


def _published(name: str, patch: Patch, says: str) -> Mutant:
    """What carries published ports is broken."""
    return Mutant(
        name=name,
        check="E3_a_published_port_leads_in_and_not_out",
        make=functools.partial(string_suite, "bubblewrap"),
        needs="bubblewrap",
        patch=patch,
        says=says,
    )


def _older_table(patch: pytest.MonkeyPatch) -> None:
    """The kernel has calls that are younger than the table."""
    patch.setattr("stockade.testing.hostcalls.NEWEST", 423)


def _unrefused(check: str, name: str) -> Mutant:
    """What is not claimed is taken all the same."""
    return _core(
        check,
        name,
        "stockade.capabilities.Capabilities.require",
        lambda *_: None,
        sandbox=SaysYes,
        read_only_root="native",
    )


ISOLATING = [
    _claims(
        "E1_no_capability_and_an_unprivileged_user", "all-privilege", process_hardening="native"
    ),
    _claims("E1_no_new_privs_and_a_filter", "no-filter", process_hardening="native"),
    _claims("E2_read_only_but_for_two_folders", "writes-nowhere", SaysYes, read_only_root="native"),
    _claims(
        "E2_code_writes_to_two_folders_alone",
        "a-folder-more",
        WritesElsewhere,
        read_only_root="native",
    ),
    _claims("E2_filling_the_space_hurts_only_the_sandbox", "no-bound", disk="native"),
    _claims("E2_no_call_changes_a_file_of_the_host", "writes-to-the-host"),
    _claims(
        "E2_a_call_that_nobody_looked_at_is_not_there",
        "a-call-of-next-year",
        patch=_older_table,
        process_hardening="native",
    ),
    _claims("E2_files_behave_as_a_kernels_do", "copies-links", CopiesLinks),
    _claims(
        "E2_temporary_files_and_shared_memory",
        "no-var-tmp",
        _lacks("/var/tmp"),
        says="in /var/tmp",
        read_only_root="native",
    ),
    _claims(
        "E2_temporary_files_and_shared_memory",
        "no-dev-shm",
        _lacks("/dev/shm"),
        says="in /dev/shm",
        read_only_root="native",
    ),
    _claims(
        "E2_code_shares_memory_between_processes",
        "no-shared-memory",
        _lacks("shared_memory.SharedMemory"),
        says="for two",
        read_only_root="native",
    ),
    _claims(
        "E2_temporary_files_and_shared_memory_are_bounded",
        "no-bound",
        says="at most",
        read_only_root="native",
        disk="native",
    ),
    _claims("E3_no_way_out", "a-network", network_off="native"),
    _claims("E3_no_way_out_with_the_programs_there_are", "a-network", network_off="native"),
    _claims("E3_no_unix_socket_of_the_host", "unix-sockets", network_off="native"),
    _claims("E3_a_network_brings_no_unix_socket_along", "unix-sockets", network="native"),
    _claims(
        "E3_localhost_is_the_name_of_loopback",
        "no-localhost",
        _lacks("localhost"),
        says="a connection",
        network_off="native",
        loopback="native",
    ),
    _claims(
        "E3_no_family_of_sockets_outside_of_a_namespace",
        "every-family",
        says="in no namespace",
        network_off="native",
    ),
    _claims(
        "E3_a_published_port_leads_in_and_not_out",
        "publishes-nothing",
        PublishesNothing,
        says="the server inside",
        network_off="native",
        ports="native",
    ),
    _published("listens-everywhere", _everywhere, "this machine's loopback"),
    _published("carries-one-way", _one_way, "all that was sent"),
    _claims("E4_the_process_limit_holds", "no-process-limit", processes="native"),
    _claims("E4_threads_count_too", "no-limit-for-threads", processes="native"),
    _claims("E5_the_memory_limit_holds", "no-memory-limit", memory="native"),
    _claims("E5_buffers_of_sockets_count", "sockets-are-free", memory="native"),
    _claims("E5_connections_that_nobody_accepts_count", "connections-are-free", memory="native"),
    _claims("E5_buffers_of_pipes_count", "pipes-are-free", memory="native"),
    _claims("E5_page_tables_count", "page-tables-are-free", memory="native"),
    _claims("E5_shared_memory_that_nobody_touches_counts", "hidden-memory", memory="native"),
    _claims("E6_the_cpu_limit_holds", "no-cpu-limit", TakesTheCpu, cpu="native"),
    _claims("E7_nothing_of_the_host_shows", "shows-the-host"),
    _claims("E7_code_sees_nothing_of_the_host", "shows-the-host"),
    _claims("E8_two_sessions_share_nothing", "shared-processes"),
    _claims("E8_code_leaves_nothing_for_another_session", "one-tmp-for-all"),
    _claims("E8_two_sessions_share_nothing", "shared-folders", SharesItsFolders),
    _claims(
        "E8_no_quota_is_used_up_for_another_session",
        "one-user-for-all",
        SharesAUser,
        says="a pipe of",
    ),
    _claims(
        "E8_no_room_for_compiled_programs_is_used_up",
        "attaches-programs",
        says="option 26",
    ),
    _claims("E9_dangerous_mounts_are_refused", "mounts-anything", mounts="native"),
    _claims("E9_a_mount_is_read_only_unless_asked_otherwise", "mounts-nothing", mounts="native"),
    _claims("E9_a_folder_with_a_service_is_refused", "mounts-services", mounts="native"),
    _claims("E9_a_folder_of_another_user_is_refused", "mounts-of-others", mounts="native"),
    _claims(
        "E9_no_file_of_the_callers_gives_its_rights_away",
        "gives-rights",
        mounts="native",
        says="no set-user-id",
    ),
    _claims(
        "E10_an_allow_list_opens_nothing_else",
        "opens-all",
        allow_list="native",
        network_off="native",
    ),
    _claims(
        "E10_a_name_leads_to_no_private_network",
        "goes-anywhere",
        allow_list="native",
        network_off="native",
    ),
    _claims(
        "E10_an_entry_opens_a_private_place_and_no_more",
        "opens-no-private-place",
        allow_list="native",
        network_off="native",
    ),
    Mutant(
        name="opens-all-of-loopback",
        check="E10_an_entry_opens_a_private_place_and_no_more",
        make=functools.partial(string_suite, "bubblewrap"),
        needs="bubblewrap",
        patch=_any_port,
    ),
    _on("F1_what_is_written_is_read", LosesTheEndOfInput),
    _on("F1_fifty_mebibytes", LosesInput),
    _on("F2_errors_are_those_of_local_files", _ends(_one_code), "one-code-for-all"),
    _claims("F3_a_planted_link_leads_nowhere_on_the_host", "follows-links"),
    _core(
        "F3_a_folder_brought_out_stays_in_its_destination",
        "makes-any-link",
        "stockade.files._host.safe_target",
        lambda top, parts, target: target,
    ),
    _core(
        "F3_a_folder_brought_out_stays_in_its_destination",
        "trusts-the-words-of-links",
        "stockade.files._host.safe_target",
        _words_alone,
    ),
    _on("F4_whole_folders_in_and_out", DropsTheEnd),
    _on("F4_whole_folders_in_and_out", LosesModes),
    _on("F4_a_listing_gives_kind_size_and_mode", LosesTheEndOfInput),
    _claims(
        "G1_sessions_start_from_a_snapshot_and_leave_it_as_it_is",
        "keeps-nothing",
        SaysYes,
        snapshot="native",
        read_only_root="native",
    ),
    _unrefused("G1_sessions_start_from_a_snapshot_and_leave_it_as_it_is", "takes-a-snapshot"),
    _claims("G2_a_paused_session_stands_still_and_goes_on", "goes-on", Pauses, pause="native"),
    _unrefused("G2_a_paused_session_stands_still_and_goes_on", "pauses"),
]
