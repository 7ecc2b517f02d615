"""The prose linter: plain English in the pages and in core's docstrings and messages.

    python tests/docs/prose.py              every page, and core; exits with 1 if it finds anything
    python tests/docs/prose.py FILE…        these files
    python tests/docs/prose.py --table      words a sentence and findings, page by page

It looks for the words and phrases of ``prose-words.txt``. In pages it also looks for

- sentences of more than `LONGEST` words,
- sentences with two semicolons (a cell of a table may have them),
- two sentences that only a comma joins,
- pages whose sentences have more than `AVERAGE` words on average.

A line ``<!-- prose: off -->`` switches it off until ``<!-- prose: on -->``.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["AVERAGE", "LONGEST", "Finding", "average", "check", "files", "main", "markdown"]

ROOT = Path(__file__).parents[2]
#: Words that one sentence may have. One piece of code counts as one word.
LONGEST = 40
#: Words that a page's sentences may have on average.
AVERAGE = 20.0
#: A page with fewer sentences has no average worth a check.
_FEWEST = 8
#: What is written by a program, or records what was decided at its time.
_LEFT_OUT = ("CHANGELOG.md", "docs/adr/", "docs/reports/", "docs/matrix.md", "docs/work.md")

_SUBJECT = r"(?:it|they|he|she|we|you|there|this|these)"
_VERB = (
    r"(?:is|are|was|were|has|have|had|does|do|did|can|cannot|could|must|may|might|will|would"
    r"|shall|should|gets|goes|takes|needs|ends|starts|runs|comes|says|holds|makes|gives)"
)
_SPLICE = re.compile(rf", (?P<rest>{_SUBJECT} {_VERB}\b)")
#: A sentence that begins so has a clause or a phrase before its comma, or asks.
_OPENS = re.compile(
    r"^\W*(?:if|when|while|where|wherever|whenever|whatever|whichever|whoever|since|as|because|once"
    r"|until|unless|after|before|although|though|with|without|for|from|in|on|at|by|to|under|over"
    r"|behind|below|above|inside|outside|beside|besides|beyond|of|like|unlike|instead|so that|even"
    r"|how|what|which|who|between|during|through|across|past|given|otherwise|then|here|there,"
    r"|today|now|as long|\w+ing|\w+ed)\b",
    re.IGNORECASE,
)
#: What may stand between a comma and a subject, or opens a clause before the comma.
_JOINS = re.compile(
    r"(?:\b(?:and|or|but|nor|so|yet|that|which|who|whose|if|when|while|where|since|as|because"
    r"|(?<!at )once|until|unless|after|before|than|whether|what|though|although)\b"
    r"|[;:(]|,)[^,;:]*$",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^\s*(```|~~~)")
_OFF, _ON = "<!-- prose: off -->", "<!-- prose: on -->"
#: Letters that end no sentence though a full stop follows them.
_SHORT = re.compile(r"\b(?:e\.g|i\.e|etc|cf|vs|no|St)\.$", re.IGNORECASE)
_END = re.compile(r"(?<=[.!?])[)\"'*_]*\s+(?=[\"'(*_]*[\w`§])")


class Sentence(NamedTuple):
    """One sentence of a file, or what stands for one: a heading, a cell, an item."""

    text: str
    line: int
    #: Whether it is running text: no heading, no cell of a table.
    running: bool

    @property
    def words(self) -> int:
        return len(re.findall(r"\w[\w'./-]*", self.text))


def plain(text: str) -> str:
    """Text without markup: a link is its words, a piece of code is one word."""
    text = re.sub(r"<!--.*?-->", " ", text)
    text = re.sub(r"``.+?``|`[^`]*`", "CODE", text)
    text = re.sub(r":\w+:CODE", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<[^>]+>|https?://\S+", " ", text)
    return " ".join(text.replace("**", "").split())


def _split(text: str, line: int, running: bool) -> Iterator[Sentence]:
    begin = 0
    text = plain(text)
    for match in _END.finditer(text):
        part = text[begin : match.start()]
        if not _SHORT.search(part):
            yield Sentence(part, line, running)
            begin = match.end()
    if re.search(r"\w", text[begin:]):
        yield Sentence(text[begin:], line, running)


def markdown(text: str) -> Iterator[Sentence]:
    """The sentences of a page, with the line in which their paragraph begins."""
    lines: list[str] = []
    first, fenced, off = 1, False, False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if _FENCE.match(line):
            fenced = not fenced
            line = ""
        elif line.strip() in (_OFF, _ON):
            off = line.strip() == _OFF
            line = ""
        elif fenced or off or line.startswith("    "):
            line = "" if not lines or fenced or off else line
        item = re.match(r"\s*(?:[-*+]|\d+\.)\s+", line)
        apart = line.startswith(("#", "|")) or not line.strip() or item
        if apart and lines:
            yield from _split(" ".join(lines), first, running=True)
            lines = []
        if line.startswith("|"):
            for cell in re.split(r"(?<!\\)\|", line):
                yield from _split(cell, number, running=False)
        elif line.startswith("#"):
            yield from _split(line.lstrip("# "), number, running=False)
        elif line.strip():
            if not lines:
                first = number
            lines.append(line[item.end() :] if item else line.strip())


def python(text: str) -> Iterator[Sentence]:
    """What a module says to people: docstrings, comments that begin with ``#:``, and messages."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for part in re.split(r"\n\s*\n", node.value):
                yield from _split(part, node.lineno, running=True)
    for number, line in enumerate(text.splitlines(), 1):
        comment = re.search(r"(?:^|\s)#:?\s+(.*)$", line)
        if comment:
            yield from _split(comment[1], number, running=True)


class Finding(NamedTuple):
    """One fault: the file, its line, and what is wrong with it."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line}: {self.what}"


def words() -> list[tuple[re.Pattern[str], str]]:
    """The project's word list: a pattern, and what to write in its place."""
    found = []
    for line in (Path(__file__).parent / "prose-words.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern, _, instead = (part.strip() for part in line.partition("=>"))
            found.append((re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE), instead))
    return found


_WORDS = words()
#: Any of them: most sentences have none, and need one look.
_ANY = re.compile("|".join(f"(?:{pattern.pattern})" for pattern, _ in _WORDS), re.IGNORECASE)


def sentences(path: Path) -> list[Sentence]:
    """What a file says, sentence by sentence."""
    return list(python(path.read_text()) if path.suffix == ".py" else markdown(path.read_text()))


def average(found: list[Sentence]) -> float:
    """Words a sentence of running text; tables and headings do not count."""
    lengths = [one.words for one in found if one.running]
    return sum(lengths) / len(lengths) if lengths else 0.0


def check(path: Path) -> Iterator[Finding]:
    """Every fault of one file."""
    said = sentences(path)
    for one in said:
        for pattern, instead in _WORDS if _ANY.search(one.text) else ():
            for match in pattern.finditer(one.text):
                yield Finding(path, one.line, f'"{match[0]}": write {instead}')
        if path.suffix == ".py":
            continue
        if one.words > LONGEST:
            start = " ".join(one.text.split()[:6])
            yield Finding(path, one.line, f'a sentence of {one.words} words: "{start} …"')
        if one.running and one.text.count(";") > 1:
            yield Finding(path, one.line, "more than one semicolon: write sentences")
        if splice := spliced(one.text):
            yield Finding(path, one.line, f'a comma joins two sentences: ", {splice}"')
    if path.suffix != ".py" and sum(one.running for one in said) >= _FEWEST:
        length = average(said)
        if length > AVERAGE:
            yield Finding(path, 1, f"{length:.1f} words a sentence; at most {AVERAGE:.0f}")


def spliced(text: str) -> str | None:
    """How the second of two sentences begins that only a comma joins; None if there is none."""
    for match in _SPLICE.finditer(text):
        before = text[: match.start()]
        if _OPENS.match(before) or _JOINS.search(before):
            continue
        if re.search(rf"\b{_VERB}\b|\w+s\b", before):
            return match["rest"]
    return None


def files() -> list[Path]:
    """The pages that are checked, and core's sources."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    kept = [path for path in pages if not path.relative_to(ROOT).as_posix().startswith(_LEFT_OUT)]
    return sorted(kept) + sorted((ROOT / "core" / "src" / "stockade").rglob("*.py"))


def main(arguments: list[str]) -> int:
    """Check what is named, or everything; the exit code is 1 if there is a fault."""
    table = "--table" in arguments
    paths = [Path(name).resolve() for name in arguments if name != "--table"] or files()
    total = 0
    for path in paths:
        findings = list(check(path))
        total += len(findings)
        if table:
            length = average(sentences(path))
            print(f"{path.relative_to(ROOT)!s:40} {length:6.1f} {len(findings):5}")
        else:
            print("".join(f"{finding}\n" for finding in findings), end="")
    print(f"{len(paths)} files, {total} findings")
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
