"""What `import stockade` costs beside an empty interpreter, and that listing imports no wall."""

from __future__ import annotations

import subprocess
import sys

from common import arguments, interleaved, save, show

_LISTING = """
import sys, stockade
names = [found.value.partition(":")[0] for found in stockade.installed_providers()]
loaded = [name for name in names if name.partition(".")[0] in sys.modules]
print(len(names), "providers listed,", len(loaded), "of them imported")
sys.exit(bool(loaded))
"""


def main() -> None:
    options = arguments(rounds=20)

    def run(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    medians = interleaved(
        {
            "empty interpreter": lambda: run("pass"),
            "import stockade": lambda: run("import stockade"),
            "import stockade, list providers": lambda: run(
                "import stockade; stockade.installed_providers()"
            ),
        },
        options.rounds,
    )
    show("start-up, medians of interleaved runs", medians, "empty interpreter")
    more = medians["import stockade"] - medians["empty interpreter"]
    print(f"  importing stockade adds {more:.1f} ms (bound: 100)")
    run(_LISTING)
    save(options.json, medians)


if __name__ == "__main__":
    main()
