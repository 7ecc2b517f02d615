"""Records of displays, written by somebody behind a wall: bounded, and nothing is believed."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from stockade.executions._shown import MOST_DISPLAYS, Shown
from stockade.results import CodeError, Display

LIMIT = 2000
TYPES = st.sampled_from(["text/plain", "image/png", "application/json", "image/svg+xml"])
FORMS = st.dictionaries(TYPES, st.text(max_size=40).map(str.encode), min_size=1)


def bundle(kind: bytes, forms: dict[str, bytes]) -> bytes:
    content = b"".join(
        len(mime).to_bytes(2, "little") + len(data).to_bytes(4, "little") + mime.encode() + data
        for mime, data in forms.items()
    )
    return len(content).to_bytes(4, "little") + kind + content


def error(*texts: str) -> bytes:
    parts = [text.encode() for text in texts]
    content = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return len(content).to_bytes(4, "little") + b"E" + content


def fed(data: bytes, places: list[int], limit: int = LIMIT) -> Shown:
    shown = Shown(limit)
    at = sorted({place % (len(data) + 1) for place in places})
    for start, end in zip([0, *at], [*at, len(data)], strict=True):
        shown.feed(data[start:end])
    return shown


PLACES = st.lists(st.integers(0, 9999), max_size=6)


@examples(200)
@given(st.lists(FORMS, max_size=6), FORMS, st.text(max_size=30), PLACES)
def test_what_was_sent_is_read(
    displays: list[dict[str, bytes]], value: dict[str, bytes], text: str, places: list[int]
) -> None:
    data = b"".join(bundle(b"D", forms) for forms in displays)
    data += bundle(b"V", value) + error("Name", text, "trace")
    fields = fed(data, places, 1 << 20).fields()
    assert [dict(one.data) for one in fields["displays"]] == [
        {mime: raw if mime == "image/png" else raw.decode() for mime, raw in forms.items()}
        for forms in displays
    ]
    assert fields["value"] is not None and fields["error"] == CodeError("Name", text, "trace")
    assert not fields["displays_truncated"]
    assert pickle.loads(pickle.dumps(fields)) == fields


@examples(200)
@given(st.lists(st.tuples(st.sampled_from([b"V", b"D"]), FORMS), max_size=60), PLACES)
def test_no_more_is_kept_than_is_allowed(
    records: list[tuple[bytes, dict[str, bytes]]], places: list[int]
) -> None:
    data = b"".join(bundle(kind, forms) for kind, forms in records)
    fields = fed(data + error("E", "m", "t"), places).fields()
    size = sum(len(raw) for one in fields["displays"] for raw in one.data.values())
    assert size <= LIMIT
    assert fields["error"] == CodeError("E", "m", "t")
    whole = sum(kind == b"D" for kind, _ in records) == len(fields["displays"])
    assert whole or fields["displays_truncated"]


@examples(300)
@given(st.binary(max_size=200), FORMS, PLACES)
def test_anything_else_is_refused_and_harms_nothing(
    rest: bytes, forms: dict[str, bytes], places: list[int]
) -> None:
    good = bundle(b"D", forms)
    fields = fed(good + rest, places).fields()
    assert len(fields["displays"]) >= 1
    for one in fields["displays"]:
        assert isinstance(one, Display)
        assert all(isinstance(data, (str, bytes)) for data in one.data.values())


def test_lengths_are_not_believed() -> None:
    shown = Shown(LIMIT)
    shown.feed(b"\xff\xff\xff\xffD" + b"x" * 70_000)
    assert len(shown._held) == 0
    fields = shown.fields()
    assert fields["displays"] == () and fields["displays_truncated"]


def test_displays_are_counted() -> None:
    shown = Shown(1 << 30)
    shown.feed(bundle(b"D", {"text/plain": b""}) * (MOST_DISPLAYS + 5))
    assert len(shown.fields()["displays"]) == MOST_DISPLAYS and shown.truncated
