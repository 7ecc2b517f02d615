"""Examples of each command: its help ends with them, and so do the manual and the reference.

A test runs every line as it stands, in a folder with a project. ``$id`` is a durable session's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

__all__ = ["EXAMPLES", "add_examples", "ending", "examples_of"]

#: By the words after ``stockade``; the empty text is the command itself.
EXAMPLES: Mapping[str, Sequence[str]] = {
    "": (
        "stockade doctor",
        "stockade run -- python3 -c 'print(6*7)'",
        "stockade run -p docker:python:3.12-slim -- python3 --version",
    ),
    "run": (
        "stockade run -- python3 -c 'print(6*7)'",
        "stockade run -p gvisor:python:3.12 -p local --put . -- python3 tests.py",
        "stockade run --code 'print(6*7)' --language python",
        "stockade run --mount .:rw --memory 1024 --timeout 600 -- python3 tests.py",
        "stockade run --mount .:rw --allow pypi.org -- python3 tests.py",
        "stockade run --put . --secret gh=env:TOKEN@api.github.com -- ./release",
        "echo data | stockade run --timeout 5 -- wc -c",
    ),
    "providers": ("stockade providers", "stockade providers --json"),
    "plugins": (
        "stockade plugins",
        "STOCKADE_DISABLED_PLUGINS=otel stockade plugins",
    ),
    "doctor": (
        "stockade doctor",
        "stockade doctor -p docker:python:3.12-slim -p local",
        "stockade doctor --probe -p landlock",
    ),
    "conformance": (
        "stockade conformance -p landlock --clause D2",
        "stockade conformance -p landlock --clause B4 --json report.json",
    ),
    "diff": (
        "stockade diff --against landlock -- python3 -c 'print(6*7)'",
        "stockade diff -p docker:python:3.12-slim --against local --code 'print(6*7)'",
    ),
    "new-plugin": ("stockade new-plugin demo", "stockade new-plugin demo --into walls"),
    "shell": (
        "stockade shell",
        "stockade shell -p docker:python:3.12-slim -- python3",
        "stockade shell --lifetime none --mount .:rw --allow pypi.org -- sh",
    ),
    "session": (
        "id=$(stockade session create -p docker:python:3.12-slim)",
        "stockade session exec $id -- python3 -c 'print(6*7)'",
        "stockade session destroy $id",
    ),
    "session create": (
        "stockade session create -p docker:python:3.12-slim",
        "stockade session create -p docker:python:3.12-slim --idle 600 --json",
    ),
    "session list": ("stockade session list",),
    "session show": ("stockade session show $id",),
    "session exec": (
        "stockade session exec $id -- python3 -c 'print(6*7)'",
        "stockade session exec $id --shell 'ls | wc -l' --timeout 5",
    ),
    "session shell": ("stockade session shell $id",),
    "session cp": (
        "stockade session cp ./data $id:/workspace/data",
        "stockade session cp $id:/etc/hostname .",
    ),
    "session logs": ("stockade session logs $id",),
    "session pause": ("stockade session pause $id",),
    "session resume": ("stockade session resume $id",),
    "session snapshot": (
        "stockade session snapshot $id files.snapshot",
        "stockade session create -p docker:python:3.12-slim --snapshot files.snapshot",
    ),
    "session destroy": ("stockade session destroy $id",),
    "top": ("stockade top", "stockade top --once --json"),
    "gc": ("stockade gc --dry-run", "stockade gc", "stockade gc --watch 60"),
    "audit": (
        "stockade run --audit audit.jsonl -- true",
        "stockade audit verify audit.jsonl",
    ),
    "audit verify": (
        "stockade run --audit audit.jsonl -- true",
        "stockade audit verify audit.jsonl",
    ),
    "man": (
        "stockade man | man -l -",
        "stockade man > stockade.1",
    ),
}

_HEAD = "\b\nExamples:\n"


def ending(*lines: str) -> str:
    """The epilog of a command that these are the examples of, for plug-ins, too."""
    return _HEAD + "\n".join(f"  {line}" for line in lines)


def add_examples(command: click.Command, words: str = "") -> None:
    """Let the help of a command, and of those below it, end with its examples."""
    lines = EXAMPLES.get(words)
    if lines:
        command.epilog = ending(*lines)
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            add_examples(below, f"{words} {name}".strip())


def examples_of(command: click.Command) -> tuple[str, ...]:
    """The lines that the help of a command ends with, a plug-in's commands included."""
    _, found, text = (command.epilog or "").partition(_HEAD)
    return tuple(line.strip() for line in text.splitlines() if line.strip()) if found else ()
