"""The prose linter finds what it is for, and lets plain sentences pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import prose

PLAIN = "The supervisor starts each program. It ends the whole tree of processes at the deadline.\n"


def found(folder: Path, text: str, name: str = "page.md") -> list[str]:
    page = folder / name
    page.write_text(text)
    return [finding.what for finding in prose.check(page)]


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ("A broken plug-in is told.", "is told"),
        ("It is like the first, but for its size.", "but for"),
        ("An error makes no sense here.", "makes no sense"),
        ("Such a one ends at once.", "such a one"),
        ("`gc` runs by itself.", "by itself"),
        ("| a | the host waits, and as much is lost |", "as much"),
    ],
)
def test_a_word_of_the_list_is_found(tmp_path: Path, bad: str, word: str) -> None:
    (what,) = found(tmp_path, f"# A page\n\n{PLAIN}\n{bad}\n")
    assert what.lower().startswith(f'"{word}": write ')


def test_what_reads_alike_and_is_plain_passes(tmp_path: Path) -> None:
    assert not found(tmp_path, f"# A page\n\n{PLAIN}\nIt takes as much as its limit.\n")


def test_a_long_sentence_is_found(tmp_path: Path) -> None:
    long = " ".join(["word"] * (prose.LONGEST + 1))
    assert found(tmp_path, f"{PLAIN}\n{long.capitalize()}.\n") == [
        f'a sentence of {prose.LONGEST + 1} words: "Word word word word word word …"'
    ]
    assert not found(tmp_path, f"{PLAIN}\n{long[5:].capitalize()}.\n")


def test_a_page_of_long_sentences_is_found(tmp_path: Path) -> None:
    sentence = " ".join(["Word"] + ["word"] * 20) + ".\n\n"
    assert found(tmp_path, sentence * 8) == ["21.0 words a sentence; at most 20"]
    assert not found(tmp_path, sentence * 8 + PLAIN * 4)


def test_semicolons_are_counted(tmp_path: Path) -> None:
    assert not found(tmp_path, "One part ends; the other goes on.\n")
    assert found(tmp_path, "One ends; the other goes on; a third waits.\n") == [
        "more than one semicolon: write sentences"
    ]


@pytest.mark.parametrize(
    "bad",
    [
        "The keeper ends the session, it has a clock of its own.",
        "A wall refuses this at once, there is nothing to wait for.",
    ],
)
def test_two_sentences_that_a_comma_joins_are_found(tmp_path: Path, bad: str) -> None:
    assert [what[:26] for what in found(tmp_path, f"{bad}\n")] == ["a comma joins two sentence"]


@pytest.mark.parametrize(
    "good",
    [
        "If the keeper ends, it has ended the session before.",
        "The keeper ends the session, and it has a clock of its own.",
        "A wall that waits refuses this, which it does at once.",
    ],
)
def test_a_clause_before_a_comma_is_no_splice(tmp_path: Path, good: str) -> None:
    assert not found(tmp_path, f"{good}\n")


def test_code_and_what_is_switched_off_is_not_read(tmp_path: Path) -> None:
    assert not found(tmp_path, "```text\nis told\n```\n\nThe field `is told` has a name.\n")
    off = "<!-- prose: off -->\nA plug-in is told.\n<!-- prose: on -->\n"
    assert not found(tmp_path, off)
    assert found(tmp_path, f"{off}\nA plug-in is told.\n")


def test_docstrings_comments_and_messages_are_read(tmp_path: Path) -> None:
    text = '"""A plug-in is told."""\n\nX = "the wall is told"  # so it is told\n'
    assert len(found(tmp_path, text, "module.py")) == 3


def test_the_command_fails_with_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\nThe plug-in is told.\n")
    assert prose.main([str(page)]) == 1
    assert f"{page}:3: " in capsys.readouterr().out
    page.write_text(PLAIN)
    assert prose.main([str(page)]) == 0


def test_sentences_are_counted_as_people_count_them() -> None:
    text = (
        "# Head\n\nOne `code that is long` here. Two\nlines make it.\n\n"
        "- an item\n\n| a cell | b |\n"
    )
    said = list(prose.markdown(text))
    assert [(one.text, one.words) for one in said if one.running] == [
        ("One CODE here.", 3),
        ("Two lines make it.", 4),
        ("an item", 2),
    ]
    assert [one.text for one in said if not one.running] == ["Head", "a cell", "b"]


def test_pages_and_core_are_checked() -> None:
    names = {path.relative_to(prose.ROOT).as_posix() for path in prose.files()}
    assert {"README.md", "docs/using.md", "core/src/stockade/errors.py"} <= names
