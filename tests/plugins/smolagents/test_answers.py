"""What comes from behind a wall is data: hostile answers make nothing but values, or an error."""

from __future__ import annotations

import base64
import json
import pickle
from io import BytesIO
from typing import Any

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from smolagents.utils import AgentError

from conftest import examples, need
from stockade.results import Display
from stockade_smolagents import StockadeExecutor
from stockade_smolagents.answers import BadAnswer, answer_of, value_of
from stockade_smolagents.inside import ANSWER


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


def safe(tree: Any) -> str:
    return "safe:" + json.dumps(tree)


def picture(form: str) -> bytes:
    out = BytesIO()
    PIL.Image.new("RGB", (2, 2)).save(out, form)
    return out.getvalue()


def test_values() -> None:
    tree = {"a": [1, None, 0.5], "b": {"__type__": "tuple", "data": [True, "x"]}}
    assert answer_of(safe(tree)) == {"a": [1, None, 0.5], "b": (True, "x")}
    coded = base64.b64encode(picture("PNG")).decode()
    assert answer_of(safe({"__type__": "PIL.Image", "data": coded})).size == (2, 2)
    array = answer_of(safe({"__type__": "ndarray", "data": [[1, 2]], "dtype": "int64"}))
    assert array.shape == (1, 2)


PICKLE = base64.b64encode(pickle.dumps(Bomb())).decode()
HOSTILE = [
    "pickle:" + PICKLE,
    PICKLE,
    "safe:",
    "safe:" + "[" * 100_000,
    safe({"__type__": "PIL.Image", "data": base64.b64encode(picture("EPS")).decode()}),
    safe({"__type__": "PIL.Image", "data": base64.b64encode(picture("TIFF")).decode()}),
    safe({"__type__": "PIL.Image", "data": base64.b64encode(b"\x89PNG\r\n\x1a\nno").decode()}),
    safe({"__type__": "PIL.Image", "data": {"a": 1}}),
    safe({"__type__": "PIL.Image"}),
    safe([{"__type__": "ndarray", "data": ["x"], "dtype": "<U2000000000"}]),
    safe([{"__type__": "ndarray", "data": ["x"], "dtype": "O"}]),
    safe([{"__type__": "ndarray", "data": [[1], 2], "dtype": "int64"}]),
    safe({"x": {"__type__": "set", "data": [[1]]}}),
    safe({"__type__": "dict_with_complex_keys", "data": [[1]]}),
    safe({"__type__": "timedelta", "total_seconds": 1e300}),
    safe({"__type__": "Decimal", "data": "nothing"}),
    safe({"__type__": "bytes"}),
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadAnswer):
        answer_of(text)
    assert "unpickled" not in capsys.readouterr().out


def test_only_pictures_that_stockade_shows_are_opened() -> None:
    assert value_of(Display({"image/png": picture("PNG"), "text/plain": "x"})).size == (2, 2)
    with pytest.raises(BadAnswer):
        value_of(Display({"image/png": picture("GIF")}))
    assert value_of(Display({"text/plain": "x", "text/html": "<b>"})) == "x"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["__type__", "data", "dtype", "real", "imag", "module", "total_seconds"]
            ),
            inner
            | st.sampled_from(
                [
                    "tuple",
                    "set",
                    "bytes",
                    "ndarray",
                    "complex",
                    "dataclass",
                    "datetime",
                    "Path",
                    "Decimal",
                    "timedelta",
                    "PIL.Image",
                ]
            ),
        )
    ),
    max_leaves=20,
)


@examples(500)
@given(JSON)
def test_every_answer_is_a_value_or_a_bad_answer(tree: Any) -> None:
    try:
        answer_of(safe(tree))
    except BadAnswer:
        pass


def test_code_that_forges_an_answer_gives_no_more_than_an_answer() -> None:
    """It is the code's own to give; what it may not is have something unpickled."""
    need("landlock")
    forged = f"""
class FinalAnswerException(BaseException): pass
class Forged:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {{{ANSWER!r}: "pickle:{PICKLE}"}}
display(Forged())
raise FinalAnswerException()
"""
    with StockadeExecutor("landlock") as one:
        with pytest.raises(AgentError, match="not in smolagents' safe form"):
            one(forged)
        forged = (
            "class FinalAnswerException(BaseException): pass\nraise FinalAnswerException('safe:1')"
        )
        with pytest.raises(AgentError, match="did not arrive"):
            one(forged)
