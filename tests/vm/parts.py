"""What the lane runs in a guest: each part one run of pytest, in a guest of its own."""

from __future__ import annotations

import shlex

import attrs
from guest import recipe

#: The one factor by which time bounds are widened in the emulated guest.
TIME_FACTOR = 8
#: Past so long in one check, the guest's log gets the stacks of all threads, once.
_STANDING_SECONDS = 180


@attrs.frozen
class Part:
    """One run of pytest in the guest."""

    name: str
    arguments: tuple[str, ...]
    seconds: int  #: the most that booting and running may take
    requires: str = ""  #: the walls that must be available
    before: str = ":"  #: shell, in the guest

    def script(self, checks: tuple[str, ...] = ()) -> str:
        """The job of a guest: these checks, or all of the part's."""
        words = shlex.join(checks or self.arguments)
        lines = [
            # In memory: the share is slow. With their times, or nothing compiled is good for them.
            "mkdir /tmp/work && cd /tmp/work && cp -a /mnt/site /mnt/tests /mnt/pyproject.toml .",
            f"export PYTHONPATH=/tmp/work/site:{recipe.SITE} PYTHONDONTWRITEBYTECODE=1 HOME=/root",
            f"export STOCKADE_TIME_FACTOR={TIME_FACTOR} STOCKADE_REPORTS=/mnt/reports",
            "sh /tmp/work/tests/vm/guest/busybox-root /srv/stockade-busybox",
            self.before,
            # Ended inside first, so that what was printed until then is seen.
            f"STOCKADE_REQUIRE={self.requires} timeout -k 10 {self.seconds - 60} "
            f"python3 -m pytest -v --tb=short -p no:cacheprovider -o timeout={self.seconds} "
            f"-o faulthandler_timeout={_STANDING_SECONDS} "
            "--durations=5 --junitxml=/mnt/reports/junit.xml "
            f"{words}",
        ]
        return "\n".join([*lines, ""])


#: The longest first: the last to begin is then done in the others' shadow.
PARTS = (
    Part(
        "microsandbox",
        ("tests/conformance/test_microsandbox.py", "tests/vm/inside/test_microsandbox.py"),
        2700,
        requires="microsandbox",
    ),
    Part(
        "hyperlight",
        ("tests/conformance/test_hyperlight.py", "tests/vm/inside/test_hyperlight.py"),
        1500,
        requires="hyperlight",
    ),
    Part(
        "without-kvm",
        ("tests/vm/test_without_kvm.py",),
        300,
        requires="vm",
        before="mv /dev/kvm /dev/kvm.away",
    ),
)
