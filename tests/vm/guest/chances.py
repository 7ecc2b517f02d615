"""The second chance that each part has, since an emulator may fail where the project does not.

A guest that dies, hangs or leaves no report is replaced, once. Checks that failed are run
once more, they alone, in a new guest; who fails again has failed. Whatever used its second
chance is reported by name.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from guest.outcome import Outcome

#: Runs a part in a guest of its own: a name for the run, and the checks, none for all of them.
Run = Callable[[str, tuple[str, ...]], Outcome]


@attrs.frozen(kw_only=True)
class Verdict:
    """What a part came to, all chances taken."""

    good: bool
    summary: str
    reported: tuple[str, ...]  #: what used its second chance
    logs: tuple[str, ...]  #: what each run printed


def take(run: Run, say: Callable[[str], object]) -> Verdict:
    """Run a part, with its second chances; ``say`` is called with each as it comes."""
    reported: list[str] = []
    logs: list[str] = []

    def once(name: str, checks: tuple[str, ...] = ()) -> Outcome:
        done = run(name, checks)
        logs.append(done.log)
        return done

    def report(text: str) -> None:
        reported.append(text)
        say(text)

    first = once("all")
    if first.trouble:
        report(f"{first.trouble.splitlines()[0]}: once more, in a new guest")
        first = once("all-new-guest")
    if first.trouble:
        return Verdict(
            good=False, summary=first.trouble, reported=tuple(reported), logs=tuple(logs)
        )
    passed, failed, seconds = first.passed, first.failed, first.seconds
    if failed:
        names = ", ".join(name.rpartition("::")[2] for name in failed)
        report(f"failed at first, run once more in a new guest: {names}")
        second = once("failed-at-first", failed)
        seconds += second.seconds
        # To be skipped, or not to be found, is not to pass.
        if not second.trouble and not second.failed and second.passed == len(failed):
            passed, failed = passed + second.passed, ()
        elif not second.trouble and second.failed:
            passed, failed = passed + len(failed) - len(second.failed), second.failed
    summary = f"{passed} passed, {len(failed)} failed, {first.skipped} skipped or deviating"
    return Verdict(
        good=passed > 0 and not failed,
        summary=f"{summary}, in {seconds:.0f} s",
        reported=tuple(reported),
        logs=tuple(logs),
    )
