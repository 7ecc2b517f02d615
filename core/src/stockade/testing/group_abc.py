"""Checks of A (selecting), B (configuration) and C (sessions and the registry)."""

from __future__ import annotations

import functools
import threading
import time
from typing import Any

import pytest

from stockade.capabilities import Feature, refusals
from stockade.config import Mount, SandboxConfig
from stockade.errors import (
    ConfigError,
    ProviderStringError,
    SessionNotFoundError,
    SessionStateError,
    StockadeError,
    UnsupportedError,
)
from stockade.results import SessionStatus, Verdict
from stockade.session import Session
from stockade.spec import ProviderString
from stockade.testing.base import ConformanceBase, expect


class Selection(ConformanceBase):
    """A: the provider string."""

    def test_A1_the_string_round_trips(self) -> None:
        if not self.provider:
            pytest.skip("the suite was given a provider object")
        spec = ProviderString.parse(self.provider)
        expect(ProviderString.parse(str(spec)) == spec, "A1", "parse(str(x)) == x", str(spec))

    def test_A2_an_unknown_option_is_named(self) -> None:
        if not self.provider:
            pytest.skip("the suite was given a provider object")
        import stockade

        joint = "&" if "?" in self.provider else "?"
        with pytest.raises(ProviderStringError, match="memry_mb"):
            stockade.provider(f"{self.provider}{joint}memry_mb=1")

    def test_A8_availability_is_told_in_bounded_time(self) -> None:
        provider = self.make_provider()
        began = time.monotonic()
        answer = provider.availability()
        self.within("A8", 15, began, "a probe")
        expect(bool(answer) or answer.reason, "A8", "a reason when unavailable", answer)


class Configuration(ConformanceBase):
    """B: what the wall cannot hold is refused; what it is given does not leak."""

    def test_B1_the_defaults_are_held_or_refused(self) -> None:
        provider = self.make_provider()
        missing = refusals(SandboxConfig(), provider.wall.capabilities)
        if not missing:
            provider.destroy_session("a", provider.create_session("a", SandboxConfig()).session_id)
            return
        with pytest.raises(UnsupportedError) as caught:
            provider.create_session("a", SandboxConfig())
        for feature, _, _ in missing:
            expect(str(feature) in str(caught.value), "B1", f"{feature} named", caught.value)

    def test_B3_what_is_unsupported_is_refused_before_anything_starts(self) -> None:
        provider = self.make_provider()
        have = provider.wall.capabilities
        asks: dict[Feature, dict[str, Any]] = {
            Feature.NETWORK: {"network_enabled": True},
            Feature.WRITABLE_ROOT: {"read_only_fs": False},
            Feature.USER: {"user": "12345"},
            Feature.WORKING_DIR: {"working_dir": "/elsewhere"},
            Feature.MOUNTS: {"mounts": (Mount("/srv", "/srv"),)},
            Feature.ALLOW_LIST: {"network_enabled": False, "network_allow": ("example.org",)},
            Feature.MEMORY: {"memory_mb": 64},
            Feature.CPU: {"cpu_limit": 0.5},
            Feature.PROCESSES: {"max_processes": 16},
            Feature.DISK: {"disk_mb": 8},
        }
        for feature, changes in asks.items():
            if not have[feature]:
                config = provider.config.with_(**changes)
                create = functools.partial(provider.create_session, "a", config)
                self.refused("B3", create, feature)
        expect(not provider.runtime.registry.records(), "B3", "no session left", "some")

    def test_B4_environment_values_show_nowhere(self) -> None:
        secret = "conformance-secret-7131"
        with self.session(env_vars={"TOKEN": secret}) as session:
            expect(
                session.shell('printf %s "$TOKEN"').stdout == secret, "B4", "the value", "another"
            )
            execution = session.start(["sleep", "3"])
            time.sleep(0.3)
            shown = [line for line in _host_command_lines() if secret in line]
            execution.cancel()
            expect(not shown, "B4", "no secret on a host command line", shown)
            expect(secret not in repr(session.provider.config), "B4", "no secret in repr", "one")


def _host_command_lines() -> list[str]:
    import glob

    lines = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as file:
                lines.append(file.read().decode("utf-8", "replace"))
        except OSError:
            continue
    return lines


class Sessions(ConformanceBase):
    """C: sessions, who reaches them, how they end."""

    def test_C1_an_agents_id_never_shows(self) -> None:
        provider = self.make_provider()
        agent = "conformance agent; $(touch /tmp/x) ../.."
        handle = provider.create_session(agent)
        try:
            shown = [line for line in _host_command_lines() if agent in line]
            expect(not shown, "C1", "the id in no command line", shown)
        finally:
            provider.destroy_session(agent, handle.session_id)
        with pytest.raises(ConfigError):
            provider.create_session("")

    def test_C2_ids_are_long_and_unlike(self) -> None:
        with self.session() as one, self.session() as two:
            expect(one.session_id != two.session_id, "C2", "two ids", one.session_id)
            expect(len(one.session_id) >= 22, "C2", "at least 128 bits", one.session_id)

    def test_C3_a_session_answers_to_its_agent_alone(self) -> None:
        provider = self.make_provider()
        handle = provider.create_session("owner")
        try:
            for agent, session_id in (("thief", handle.session_id), ("owner", "ses-none")):
                with pytest.raises(SessionNotFoundError):
                    provider.execute_code(agent, session_id, "true")
        finally:
            provider.destroy_session("owner", handle.session_id)

    def test_C4_the_state_is_the_present_one(self) -> None:
        provider = self.make_provider()
        session = Session(provider, provider.open_record("a"))
        states = [session.status]
        execution = session.start(["sleep", "20"])
        states.append(session.status)
        execution.cancel()
        execution.result(10)
        states.append(session.status)
        session.close()
        states.append(session.status)
        words = [str(state) for state in states]
        expect(words == ["ready", "executing", "ready", "destroyed"], "C4", "those states", words)
        with pytest.raises(SessionStateError):
            session.run(["true"])

    def test_C6_close_may_be_called_again_and_destroy_not(self) -> None:
        provider = self.make_provider()
        handle = provider.create_session("a")
        provider.destroy_session("a", handle.session_id)
        with pytest.raises(SessionNotFoundError):
            provider.destroy_session("a", handle.session_id)
        with self.session() as session:
            session.close()
            session.close()

    def test_C7_destroying_gives_the_callers_a_result(self) -> None:
        with self.session() as session:
            execution = session.start(["sleep", "30"])
            time.sleep(0.3)
            began = time.monotonic()
            session.close()
            result = execution.result(10)
            self.within("C7", 5, began, "a cancelled result")
            expect(result.verdict is Verdict.CANCELLED, "C7", "cancelled", result.verdict)

    def test_C8_sessions_do_not_wait_for_one_another(self) -> None:
        with self.session() as one, self.session() as two:
            slow = one.start(["sleep", "20"])
            began = time.monotonic()
            expect(two.run(["true"]).success, "C8", "success", "failure")
            self.within("C8", 5, began, "another session's execution")
            slow.cancel()

    def test_C8_calls_from_many_threads(self) -> None:
        wrong: list[object] = []
        with self.session() as session:

            def work(number: int) -> None:
                try:
                    result = session.shell(f"echo {number}")
                    if result.stdout != f"{number}\n":
                        wrong.append(result)
                except StockadeError as error:
                    wrong.append(error)

            threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        expect(not wrong, "C8", "16 right answers", wrong)

    def test_C11_a_busy_session_ends_with_its_lifetime(self) -> None:
        with self.session(lifetime_seconds=2.0 * self.time_factor) as session:
            result = session.run(["sleep", "30"])
            expect(result.verdict is Verdict.CANCELLED, "C11", "cancelled", result.verdict)
            deadline = time.monotonic() + 5 * self.time_factor
            while session.status is not SessionStatus.DESTROYED and time.monotonic() < deadline:
                time.sleep(0.05)
            expect(session.status is SessionStatus.DESTROYED, "C11", "destroyed", session.status)
