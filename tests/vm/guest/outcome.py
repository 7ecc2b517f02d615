"""What a run of pytest in the guest came to, by the report it left."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import attrs


@attrs.frozen(kw_only=True)
class Outcome:
    """One run of a part in one guest."""

    log: str = ""
    #: Why the run says nothing about the checks; empty where it ended with a report.
    trouble: str = ""
    passed: int = 0
    skipped: int = 0  #: or deviating, as declared
    failed: tuple[str, ...] = ()  #: their names, as pytest takes them
    seconds: float = 0.0


def read(folder: Path, code: int, log: str) -> Outcome:
    """The outcome of a run that ended with ``code`` and left ``junit.xml`` in ``folder``."""
    path = folder / "junit.xml"
    if code not in (0, 1) or not path.exists():
        ended = "did not end in its time" if code in (124, 137) else f"ended with code {code}"
        return Outcome(log=log, trouble=f"the tests {ended}")
    passed, skipped, failed = 0, 0, dict[str, None]()
    suite = next(ET.parse(path).getroot().iter("testsuite"))
    for case in suite.iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            failed[_name(case)] = None
        elif "skipped" in kinds:
            skipped += 1
        else:
            passed += 1
    if code and not failed:
        return Outcome(log=log, trouble="the tests ended with code 1 and name none that failed")
    return Outcome(
        log=log,
        passed=passed,
        skipped=skipped,
        failed=tuple(failed),
        seconds=float(suite.get("time", "0")),
    )


def _name(case: ET.Element) -> str:
    """``file::Class::name``, of the dotted name: a check's own file may be the suite's."""
    words = case.get("classname", "").split(".")
    inner = [word for word in words if word[:1].isupper()]
    module = "/".join(word for word in words if word not in inner)
    return "::".join([f"{module}.py", *inner, case.get("name", "")])
