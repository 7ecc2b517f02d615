"""Hooks whose answers are put together: commands, languages, doctor's checks, report's sections."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from typing import Any

import click
import pytest

from core.walls import ScriptedSandbox, ScriptedWall, make_provider
from stockade import LanguageError, Stream
from stockade.lowering.argv import KNOWN, lower
from stockade.plugin import Check, Language, hookimpl
from stockade.policies._hooks import Hooks
from stockade.session import Session
from stockade.sessions._runtime import Runtime
from stockade.wall import Exit


def hooks(*plugins: object) -> Hooks:
    made = Hooks(discover=False, disabled=())
    for plugin in plugins:
        made.add(plugin)
    return made


class Broken:
    @hookimpl
    def stockade_add_commands(self) -> None:
        raise RuntimeError("commands broke")

    @hookimpl
    def stockade_languages(self) -> None:
        raise RuntimeError("languages broke")

    @hookimpl
    def stockade_doctor_checks(self) -> None:
        raise RuntimeError("checks broke")

    @hookimpl
    def stockade_report_sections(self) -> None:
        raise RuntimeError("sections broke")


class Babbles:
    """Answers what is no answer."""

    @hookimpl
    def stockade_languages(self) -> Any:
        return ["lua"]

    @hookimpl
    def stockade_doctor_checks(self) -> Any:
        return Check("alone", True)

    @hookimpl
    def stockade_report_sections(self) -> Any:
        return {"a set": {1, 2}}


# -- commands ------------------------------------------------------------------


class Adds:
    def __init__(self, name: str) -> None:
        self.name = name

    @hookimpl
    def stockade_add_commands(self, group: click.Group) -> None:
        group.add_command(click.Command(self.name))


def test_who_registers_late_is_called_as_historic_hooks_are() -> None:
    group = click.Group()
    made = hooks(Adds("early"))
    made.add_commands(group)
    assert list(group.commands) == ["early"]
    made.add(Adds("late"))
    assert list(group.commands) == ["early", "late"]


def test_one_that_fails_keeps_no_other_from_its_commands(caplog: pytest.LogCaptureFixture) -> None:
    group = click.Group()
    made = hooks(Adds("a"), Broken(), Adds("b"))
    with caplog.at_level(logging.ERROR):
        made.add_commands(group)
        made.add(Broken(), "late and broken")
        made.add(Adds("c"))
    assert sorted(group.commands) == ["a", "b", "c"]
    assert caplog.text.count("commands broke") >= 2 and "late and broken" in caplog.text


# -- doctor and reports --------------------------------------------------------


class Looks:
    @hookimpl
    def stockade_doctor_checks(self) -> list[Check]:
        return [Check("one", True), Check("two", False)]

    @hookimpl
    def stockade_report_sections(self, report: Any) -> dict[str, Any]:
        return {"mine": report["title"], "shared": "older"}


class LooksToo:
    @hookimpl
    def stockade_report_sections(self) -> dict[str, Any]:
        return {"shared": "newer"}


class Filters:
    @hookimpl(wrapper=True)
    def stockade_doctor_checks(self) -> Generator[None, Any, Any]:
        answers = yield
        return [[check for check in answer if check.ok] for answer in answers]


class FiltersBadly:
    @hookimpl(wrapper=True)
    def stockade_doctor_checks(self) -> Generator[None, Any, Any]:
        yield
        return "none"


def test_checks_of_all_and_a_failure_is_one() -> None:
    found = hooks(Looks(), Broken(), Babbles()).doctor_checks()
    assert [(check.what, check.ok) for check in found[:2]] == [("one", True), ("two", False)]
    assert [check.ok for check in found[2:]] == [False, False]
    reported = " ".join(check.detail for check in found[2:])
    assert "checks broke" in reported and "is no list" in reported


def test_a_wrapper_has_the_last_word_if_that_is_a_list() -> None:
    assert [check.what for check in hooks(Looks(), Filters()).doctor_checks()] == ["one"]
    found = hooks(Looks(), FiltersBadly()).doctor_checks()
    assert [check.what for check in found[:2]] == ["one", "two"]
    assert "its wrapper returned 'none'" in found[2].detail


def test_sections_of_all_the_first_in_order_has_a_title() -> None:
    made = hooks(Looks(), LooksToo(), Broken(), Babbles())
    sections = made.report_sections({"title": "a wall"})
    assert sections == {"mine": "a wall", "shared": "newer"}


# -- languages -----------------------------------------------------------------


class Lua:
    @hookimpl
    def stockade_languages(self) -> Sequence[Language]:
        return [
            Language(name="lua", programs=("lua5.4", "lua"), aliases=("luac", "js")),
            Language(name="python", programs=("pypy3",)),
        ]


def test_the_six_are_cores_own_and_plug_ins_stand_over_them() -> None:
    assert {one.name for one in hooks().languages.values()} == {one.name for one in KNOWN}
    assert hooks().languages["js"].name == "javascript"
    made = hooks(Lua(), Broken(), Babbles())
    assert made.languages["luac"].name == "lua" and made.languages["js"].name == "lua"
    assert made.languages["python"].programs == ("pypy3",)
    assert made.languages["ruby"] in KNOWN


def test_the_table_follows_who_is_registered() -> None:
    made, lua = hooks(), Lua()
    assert "lua" not in made.languages
    made.add(lua)
    assert "lua" in made.languages
    made.remove(lua)
    assert "lua" not in made.languages


class Finds(ScriptedSandbox):
    """Answers the look for programs with what it has."""

    def __init__(self, *programs: str) -> None:
        super().__init__(body=self._answer)
        self.programs = programs

    def _answer(self, _: Any, output: Any) -> Exit:
        asked = self.requests[-1].argv
        if asked[:2] == ("sh", "-c"):
            output.write(Stream.STDOUT, "\n".join(set(asked) & set(self.programs)).encode())
        return Exit(code=0)


def opened(sandbox: ScriptedSandbox, *plugins: object) -> Session:
    runtime = Runtime(discover_plugins=False)
    for plugin in plugins:
        runtime.hooks.add(plugin)
    wall = ScriptedWall()
    wall.sandbox = sandbox
    provider = make_provider(wall=wall, runtime=runtime)
    return Session(provider, provider.open_record("a"))


def test_D1_code_in_a_plug_ins_language() -> None:
    sandbox = Finds("lua", "sh")
    with opened(sandbox, Lua()) as session:
        assert session.code("print(1)", language="LUAC").success
        look, request = sandbox.requests
        assert look.argv[-2:] == ("lua5.4", "lua")
        assert (request.language, request.interpreter) == ("lua", "lua")
        assert request.language_info is not None and request.language_info.name == "lua"
        session.code("print(2)", language="lua")
        assert len(sandbox.requests) == 3  # it is looked for once
        session.code("echo", language="sh")
        assert sandbox.requests[-1].language_info is None


def test_D1_a_plug_ins_language_that_the_sandbox_lacks() -> None:
    with opened(Finds("ruby"), Lua()) as session:
        with pytest.raises(LanguageError, match="'lua'"):
            session.code("print(1)", language="lua")
        with pytest.raises(LanguageError, match="'pascal'"):
            session.code("begin end.", language="pascal")


def test_a_walls_lowering_takes_the_plug_ins_reader() -> None:
    sandbox = Finds("lua")
    reads = Language(name="lua", programs=("lua",), reader=("-e", "read(arg[1])"))

    class Reads:
        @hookimpl
        def stockade_languages(self) -> Sequence[Language]:
            return (reads,)

    with opened(sandbox, Reads()) as session:
        session.code("print(1)", language="lua", stdin=b"input")
    lowered = lower(sandbox.requests[-1])
    assert lowered.argv == ("lua", "-e", "read(arg[1])", "8")
    assert lowered.stdin == b"print(1)input"
    with opened(sandbox, Lua()) as session:
        session.code("print(1)", language="lua")
    with pytest.raises(LanguageError):  # no reader: what has no supervisor refuses it
        lower(sandbox.requests[-1])


def test_a_supervised_sandbox_runs_it_from_a_file(landlock: str) -> None:
    import stockade

    class Awk:
        @hookimpl
        def stockade_languages(self) -> Sequence[Language]:
            return (Language(name="awk", programs=("awk", "mawk"), file_arguments=("-f",)),)

    runtime = Runtime(discover_plugins=False)
    runtime.hooks.add(Awk())
    with stockade.open(landlock, runtime=runtime) as session:
        done = session.code('{ print "got", $1 * 7 }', language="awk", stdin=b"6\n")
        assert done.stdout == "got 42\n", done
