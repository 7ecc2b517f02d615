"""Whether a framework is of a version that an adapter's tests ran with."""

from __future__ import annotations

from importlib.metadata import version

__all__ = ["untested"]


def _numbers(text: str) -> tuple[int, ...]:
    """``(1, 2, 3)`` of ``1.2.3.post4``: as many of the first three parts as are numbers."""
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def untested(
    adapter: str, framework: str, first: str, last: str, installed: str | None = None
) -> str | None:
    """What to say of a framework whose version is outside of ``first`` to ``last``; else None.

    Called by an adapter when it is imported; all are names and versions of distributions.
    ``installed`` is the version to judge, by default the one that is installed. Raises
    importlib.metadata.PackageNotFoundError if none is.
    """
    found = version(framework) if installed is None else installed
    if _numbers(first) <= _numbers(found) <= _numbers(last):
        return None
    tested = first if first == last else f"{first} to {last}"
    return (
        f"{adapter} is tested with {framework} {tested}, and {found} is installed; take a tested "
        "one where a sandbox behaves oddly."
    )
