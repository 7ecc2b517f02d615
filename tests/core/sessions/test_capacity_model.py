"""Seats and the line before them follow a model, whatever comes in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stockade import Settings
from stockade.sessions._capacity import Capacity, Seat


@given(
    st.integers(1, 4),
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "release", "abandon"]), st.integers(0, 3), st.integers(0, 20)
        ),
        max_size=60,
    ),
)
def test_seats_and_line_follow_the_model(
    most: int, each: int, steps: list[tuple[str, int, int]]
) -> None:
    """The model: walk the line, oldest first, and let in whoever fits."""
    settings = Settings(max_sessions=most, max_sessions_per_agent=each, queue_seconds=60)
    capacity = Capacity(lambda: settings)
    line: list[Any] = []
    held: list[tuple[Any, Seat]] = []

    def admit() -> None:
        for turn in list(line):
            mine = sum(other.agent_id == turn.agent_id for other, _ in held)
            if len(held) < most and mine < each:
                line.remove(turn)
                held.append((turn, turn.future.result(0)))

    for what, agent, which in steps:
        if what == "ask":
            line.append(capacity.ask(f"agent-{agent}"))
        elif what == "release" and held:
            held.pop(which % len(held))[1].release()
        elif what == "abandon" and line:
            capacity.abandon(line.pop(which % len(line)))
        admit()
        assert capacity.used == len(held) and capacity.waiting == len(line)
        assert not any(turn.future.done() for turn in line)
