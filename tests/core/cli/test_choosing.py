"""How the commands take a provider: -p, the variable, a project's file, local (A7)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need

ABSENT = "no-such-wall"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "src"
    folder.mkdir(parents=True)
    return folder


def run(here: Path, *arguments: str, provider: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockade.cli", *arguments],
        cwd=here,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "STOCKADE_PROVIDER": provider},
    )


def taken(here: Path, *arguments: str, provider: str = "") -> str:
    done = run(here, "run", *arguments, "--json", "--", "true", provider=provider)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["provider"])


def test_p_again_or_a_bar_names_alternatives(here: Path, landlock: str) -> None:
    for given in (["-p", ABSENT, "-p", landlock], ["-p", f"{ABSENT}:x | {landlock}"]):
        done = run(here, "run", *given, "--", "echo", "hi")
        assert (done.stdout, done.returncode) == ("hi\n", 0), done.stderr
        assert done.stderr.startswith(f"stockade: passed over {ABSENT}"), done.stderr
        assert done.stderr.count("\n") == 1


def test_p_stands_over_the_variable_over_the_file(here: Path, landlock: str) -> None:
    need("bubblewrap")
    (here.parent / "stockade.toml").write_text(f'provider = "{landlock}"\n')
    assert taken(here) == landlock
    assert taken(here, provider="bubblewrap") == "bubblewrap"
    assert taken(here, "-p", landlock, provider="bubblewrap") == landlock


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stockade.toml", 'provider = "landlock?memory_mb=64"\n'),
        ("stockade.toml", '[tool.stockade]\nprovider = ["no-such-wall", "landlock"]\n'),
        ("pyproject.toml", '[tool.stockade]\nprovider = "no-such-wall | landlock"\n'),
        ("pyproject.toml", '[project]\nname = "x"\n[tool.stockade]\nprovider = ["landlock"]\n'),
    ],
)
@pytest.mark.usefixtures("landlock")
def test_a_file_upwards_names_the_provider(here: Path, name: str, text: str) -> None:
    (here.parent / name).write_text(text)
    (here / "pyproject.toml").write_text('[project]\nname = "stockade"\n')  # none of ours
    done = run(here, "run", "-v", "--", "true")
    assert done.returncode == 0, done.stderr
    assert "landlock is taken" in done.stderr
    assert f"is wanted by {here.parent / name}" in done.stderr


def test_the_nearest_file_counts(here: Path, landlock: str) -> None:
    (here.parent / "pyproject.toml").write_text(f'[tool.stockade]\nprovider = "{ABSENT}"\n')
    (here / "pyproject.toml").write_text("[tool.stockade]\n")
    (here / "stockade.toml").write_text(f'provider = "{landlock}"\n')
    assert taken(here) == landlock


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('provider = "landlock?network_enabled=true"', "network_enabled"),
        ('provider = "landlock?mounts=/etc:/mnt"', "mounts"),
        ('provider = ["no-such-wall", "reference-no-isolation"]', "isolates nothing"),
        ('provider = "landlock:/"', "may be a path of yours"),
        ('provider = "landlock?python=/home/somebody"', "sets python"),
        ('provider = "landlock?memory_mb=4096"', "memory_mb"),
    ],
)
def test_a_file_may_not_open_the_wall(here: Path, text: str, says: str) -> None:
    """Whoever fills a folder may have written it; the caller may say the same."""
    (here / "stockade.toml").write_text(text + "\n")
    done = run(here, "run", "--", "true")
    assert done.returncode == 125 and not done.stdout
    assert says in done.stderr and done.stderr.startswith(f"stockade: {here / 'stockade.toml'}: ")


def test_options_of_the_command_stand_over_a_file(here: Path, landlock: str) -> None:
    (here / "stockade.toml").write_text(f'provider = "{landlock}"\n')
    done = run(here, "run", "--memory", "1024", "--json", "--", "true")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("provider = ", "is no TOML"),
        ("provider = 7", "string or a list of strings"),
        ("provider = []", "no provider is named"),
        ('provider = "a,b"', "a | b"),
        ('providers = "landlock"', "did you mean 'provider'"),
        ('provider = "landlock"\n[tool.stockade]\nprovider = "landlock"', "not in both"),
        ("tool = 1", "is a table"),
        (f"x = {'[' * 5000}", "is no TOML"),
        (f"provider = 'landlock' # {'x' * (1 << 20)}", "larger than"),
        ("provider = 'landlock' # \udcff", "is no TOML"),
    ],
)
def test_a_file_that_cannot_be_understood_is_an_error(here: Path, text: str, says: str) -> None:
    """It may have named a stronger wall than the default."""
    (here / "stockade.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = run(here, "run", "--", "true")
    assert done.returncode == 125 and says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_a_broken_file_that_names_nothing_of_ours_is_none(here: Path, landlock: str) -> None:
    (here / "pyproject.toml").write_text("[project\n")
    os.mkfifo(here / "stockade.toml")
    (here.parent / "stockade.toml").mkdir()
    (here.parent / "pyproject.toml").symlink_to("nowhere")
    assert taken(here, "-p", landlock) == landlock
    assert run(here, "run", "--", "echo", "hi").stdout == "hi\n"


def test_commands_and_messages_are_alike(here: Path, landlock: str) -> None:
    """The variable and the file hold for every command."""
    (here / "stockade.toml").write_text(f'provider = "{landlock}"\n')
    done = run(here, "session", "create")
    assert done.returncode == 125 and "landlock cannot hold what was asked: durable" in done.stderr
    done = run(here, "conformance", "--clause", "A1", "-v")
    assert done.returncode == 0 and f"{landlock} is taken" in done.stderr, done.stderr
    done = run(here, "diff", "--against", f"{ABSENT} | {landlock}", "--", "echo", "hi")
    assert done.returncode == 0 and done.stdout.endswith("alike\n"), done.stdout + done.stderr
    assert f"passed over {ABSENT}" in done.stderr
    done = run(here, "shell")
    assert done.returncode == 2 and "no terminal" in done.stderr
    for command in (
        ["run", "--", "true"],
        ["session", "create"],
        ["diff", "--against", "x", "-p", "a,b", "--", "true"],
        ["conformance", "-p", "a,b"],
    ):
        done = run(here, *command, provider="a,b")
        assert done.returncode in (2, 125) and "a | b" in done.stderr, command


def test_verbose_says_which_and_why(here: Path, landlock: str) -> None:
    need("bubblewrap")
    wanted = f"{ABSENT} | local"
    done = run(here, "run", "-v", "-p", wanted, "--", "true")
    first, second = done.stderr.splitlines()
    assert first.startswith("stockade: bubblewrap is taken (isolation: container); ")
    assert first.endswith(f"{wanted!r} is wanted by -p")
    assert second.startswith(f"stockade: passed over {ABSENT}: no installed distribution")
    done = run(here, "run", "-v", "--", "true")
    assert "'local' is wanted by the default" in done.stderr


def test_walls_that_local_passes_over_are_reported_on_request(here: Path, landlock: str) -> None:
    """Nobody named them, so only -v, --json and doctor say so."""
    need("bubblewrap")
    bin_ = here / "bin"
    bin_.mkdir()
    for name in ("sh", "true", "python3", "env", "ls"):
        found = subprocess.run(
            ["sh", "-c", f"command -v {name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        (bin_ / name).symlink_to(os.path.realpath(found))
    env = {**os.environ, "PATH": str(bin_), "STOCKADE_PROVIDER": ""}

    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stockade.cli", *arguments],
            cwd=here,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    done = ran("run", "--json", "--", "true")
    assert not done.stderr
    answer = json.loads(done.stdout)
    assert answer["provider"] == landlock
    assert [one["name"] for one in answer["passed_over"]] == ["bubblewrap"]
    done = ran("run", "-v", "--", "true")
    assert "landlock is taken" in done.stderr and "passed over bubblewrap: " in done.stderr
    doctor_says = ran("doctor", "-p", "local").stdout
    assert "landlock would be taken; 'local' is wanted by -p" in doctor_says
    assert "passed over bubblewrap: bubblewrap is not available" in doctor_says


def test_doctor_says_what_would_be_taken(here: Path, landlock: str) -> None:
    done = run(here, "doctor", "-p", f"{ABSENT} | {landlock}:/nowhere/at/all | {landlock}")
    assert done.returncode == 0, done.stderr
    assert f"{ABSENT}: not available" in done.stdout
    assert f"\n{landlock} would be taken" in done.stdout
    done = run(here, "doctor", "--json", "-p", f"{ABSENT}?labels=a=b", "-p", f"{ABSENT}:y")
    assert done.returncode == 1
    printed = json.loads(done.stdout)
    assert [wall["available"] for wall in printed["walls"]] == [False, False]
    selection = printed["selection"]
    assert selection["taken"] is None and selection["error"].count("no installed") == 2
    assert (selection["wanted"], selection["source"]) == (f"{ABSENT} | {ABSENT}:y", "-p")
    (here / "stockade.toml").write_text(f'provider = "{ABSENT}"\n')
    done = run(here, "doctor")
    assert (
        f"nothing would be taken; {ABSENT!r} is wanted by {here / 'stockade.toml'}" in done.stdout
    )


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        (
            ["run", "microsandbox:img", "--", "echo", "a b"],
            "stockade run -p microsandbox:img -- echo 'a b' (a program of that name: after --)",
        ),
        (["run", "landlock", "true"], "stockade run -p landlock -- true"),
        (["run", "--timeout", "5", "local"], "stockade run -p local ("),
        (["run", "gvisor:a | local", "--", "x"], "stockade run -p 'gvisor:a | local' -- x"),
        (["run", "mywall:img", "--", "x"], "stockade run -p mywall:img -- x"),
        (["run", "docker:img?env_vars=A=secret", "--", "x"], "-p 'docker:img?…' -- x"),
        (["shell", "docker:img"], "stockade shell -p docker:img ("),
        (["doctor", "landlock"], "stockade doctor -p landlock"),
        (["conformance", "landlock?durable=true"], "stockade conformance -p 'landlock?…'"),
        (["session", "create", "docker:img"], "stockade session create -p docker:img"),
        (
            ["diff", "landlock", "docker:img", "--", "true"],
            "stockade diff -p landlock --against STRING -- true",
        ),
    ],
)
def test_a_provider_in_another_place_is_refused_with_the_right_line(
    here: Path, typed: list[str], right: str
) -> None:
    done = run(here, *typed)
    assert done.returncode == 2 and not done.stdout
    assert right in done.stderr and "secret" not in done.stderr, done.stderr


def test_a_program_is_taken_as_it_stands(here: Path, landlock: str) -> None:
    """From its first word on all words are its own, and behind -- any name is a program's."""
    done = run(here, "run", "echo", "--json", "--", "-p")
    assert done.stdout == "--json -- -p\n", done.stderr
    done = run(here, "run", "sh", "-c", "echo $0 $1", "a:b", "--", provider=landlock)
    assert done.stdout == "a:b --\n", done.stderr
    done = run(here, "run", "--", "docker:img", "--", "x")
    assert done.returncode == 127, done.stderr
    done = run(here, "run", "--memry", "5", "--", "true")
    assert done.returncode == 2 and "--memory" in done.stderr
