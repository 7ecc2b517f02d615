"""Permits and the queue for them follow a model, whatever comes in whatever order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stockade import Settings
from stockade.sessions._capacity import Capacity, Permit


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
def test_permits_and_queue_follow_the_model(
    most: int, each: int, steps: list[tuple[str, int, int]]
) -> None:
    """The model: walk the queue, oldest first, and admit every waiter that fits."""
    settings = Settings(max_sessions=most, max_sessions_per_agent=each, queue_seconds=60)
    capacity = Capacity(lambda: settings)
    queue: list[Any] = []
    held: list[tuple[Any, Permit]] = []

    def admit() -> None:
        for waiter in list(queue):
            mine = sum(other.agent_id == waiter.agent_id for other, _ in held)
            if len(held) < most and mine < each:
                queue.remove(waiter)
                held.append((waiter, waiter.future.result(0)))

    for what, agent, which in steps:
        if what == "ask":
            queue.append(capacity.ask(f"agent-{agent}"))
        elif what == "release" and held:
            held.pop(which % len(held))[1].release()
        elif what == "abandon" and queue:
            capacity.abandon(queue.pop(which % len(queue)))
        admit()
        assert capacity.used == len(held) and capacity.waiting == len(queue)
        assert not any(waiter.future.done() for waiter in queue)
