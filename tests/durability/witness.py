"""A process whose sessions must not be touched: it lives through every kill of the crash test.

Answers each line of its input by one line: whether all its sessions still work.
"""

from __future__ import annotations

import sys

import stockade


def main() -> None:
    sessions = [stockade.open(wall, agent_id="witness") for wall in sys.argv[1:]]
    for session in sessions:
        session.files.write("/workspace/mark", session.session_id.encode())
    print("up", *(session.session_id for session in sessions), flush=True)
    for _ in sys.stdin:
        try:
            for session in sessions:
                kept = session.files.read("/workspace/mark").decode()
                said = session.run(["echo", "here"]).stdout
                assert (kept, said) == (session.session_id, "here\n")
            print("works", flush=True)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
    for session in sessions:
        session.close()


if __name__ == "__main__":
    main()
