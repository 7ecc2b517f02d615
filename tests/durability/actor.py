"""A process with sessions that obeys one command a line; run by the fault tests.

Its arguments are provider strings, each with `#SECONDS` of lifetime behind it where it has
one, or `attach:ID`. Answers each line with a list in JSON, one item a session.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import stockade


def opened(word: str) -> stockade.Session:
    if word.startswith("attach:"):
        return stockade.attach(word.partition(":")[2], agent_id="a")
    string, _, seconds = word.partition("#")
    options: dict[str, Any] = {"lifetime_seconds": float(seconds)} if seconds else {}
    return stockade.open(string, agent_id="a", **options)


def as_json(result: stockade.SandboxResult) -> dict[str, Any]:
    return {"verdict": str(result.verdict), "seconds": result.duration_seconds}


def main() -> None:
    sessions = [opened(word) for word in sys.argv[1:]]
    first = sessions[0]
    running: list[Any] = []
    for line in sys.stdin:
        match line.strip():
            case "sessions":
                answer: list[Any] = [session.session_id for session in sessions]
            case "states":
                answer = [str(session.status) for session in sessions]
            case "now":
                answer = [time.time()]
            case "begin":
                running = [first.start(shell="sleep 2", timeout=30)]
                answer = []
            case "end":
                answer = [as_json(execution.result(40)) for execution in running]
            case "late":
                answer = [as_json(first.shell("sleep 30", timeout=0.5))]
            case "works":
                live = [s for s in sessions if str(s.status) == "ready"]
                answer = [s.shell("echo hi").stdout == "hi\n" for s in live]
            case "close":
                for session in sessions:
                    session.close()
                answer = [str(session.status) == "destroyed" for session in sessions]
            case "detach":
                for session in sessions:
                    session.detach()
                answer = []
            case unknown:
                raise SystemExit(f"what is {unknown!r}?")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
