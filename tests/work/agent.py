#!/usr/bin/env python3
"""A stand-in for a coding agent: an interactive program that does at each word what agents do.

It runs behind a wall, on a terminal, with nothing but Python.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

SETTINGS = pathlib.Path.home() / ".agent" / "settings"


def act(word: str, rest: list[str]) -> object:
    if word == "edit":
        path = pathlib.Path(rest[0])
        path.write_text(path.read_text().replace(rest[1], rest[2]))
    elif word == "run":
        done = subprocess.run(rest, capture_output=True, text=True, check=False)
        return f"{done.returncode}: {done.stdout}{done.stderr}"
    elif word == "ask":
        try:
            with urllib.request.urlopen(f"http://{rest[0]}", timeout=20) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as refused:
            return f"refused: {refused.code}"
    elif word == "remember":
        SETTINGS.write_text(rest[0])
    elif word == "recall":
        return SETTINGS.read_text()
    elif word == "size":
        return os.get_terminal_size()
    elif word == "key":
        return os.environ.get("AGENT_API_KEY")
    elif word == "think":
        print("thinking", flush=True)
        time.sleep(600)
    return "done"


def main() -> None:
    assert sys.stdin.isatty() and sys.stdout.isatty()
    while True:
        try:
            word, *rest = input("agent> ").split()
            if word == "quit":
                sys.exit(7)
            print("=>", act(word, rest))
        except KeyboardInterrupt:
            print("=> interrupted")
        except Exception as error:
            print("=> failed:", error)


main()
