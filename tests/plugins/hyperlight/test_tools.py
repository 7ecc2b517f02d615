"""Host functions: what is registered and named, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stockade.errors import ConfigError

pytest.importorskip("stockade_hyperlight", reason="pip install stockade-hyperlight (tox -e vm)")


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    from stockade_hyperlight import ToolError, allow_tool, forget_tool

    def polite(**_: Any) -> None:
        raise ToolError("ask politely")

    def secret() -> None:
        raise ValueError("/host/secret")

    functions: dict[str, Callable[..., Any]] = {
        "add": lambda a, b: a + b,
        "polite": polite,
        "secret": secret,
        "odd": object,
        "long": lambda: "x" * 2_000_000,
    }
    for name, function in functions.items():
        allow_tool(name, function)
    yield
    for name in functions:
        forget_tool(name)


def call(name: object, arguments: object, allowed: tuple[str, ...] = ("add",)) -> dict[str, Any]:
    from stockade_hyperlight import tools

    return tools.call(allowed, name, arguments)


def test_one_that_is_named_answers() -> None:
    assert call("add", {"a": 1, "b": 2}) == {"value": 3}


@pytest.mark.parametrize("name", ["secret", "os.system", "__import__", "", None, ["add"]])
def test_no_other_is_there(name: object) -> None:
    assert call(name, {}) == {"error": "there is no such tool"}


@pytest.mark.parametrize("arguments", [None, [1, 2], "a", 1])
def test_arguments_are_named(arguments: object) -> None:
    assert call("add", arguments) == {"error": "arguments are named"}


def test_of_an_exception_the_type_shows_alone() -> None:
    assert call("secret", {}, ("secret",)) == {"error": "ValueError"}
    assert call("add", {"c": 1}) == {"error": "TypeError"}
    assert call("polite", {}, ("polite",)) == {"error": "ask politely"}


def test_answers_are_json_and_bounded() -> None:
    assert call("odd", {}, ("odd",)) == {"error": "TypeError"}
    assert "longer than" in call("long", {}, ("long",))["error"]


def test_names_are_checked() -> None:
    from stockade_hyperlight import allow_tool, tools

    for name in ("_stockade_write", "a b", "", "é", "a" * 65):
        with pytest.raises(ConfigError, match="not allowed"):
            allow_tool(name, print)
    with pytest.raises(ConfigError, match="cannot be called"):
        allow_tool("fine", 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nobody is not registered"):
        tools.chosen(("add", "nobody"))
    assert tools.chosen(("add", "add")) == ("add",)


def test_what_is_taken_back_is_gone() -> None:
    from stockade_hyperlight import forget_tool

    forget_tool("add")
    assert call("add", {"a": 1, "b": 2}) == {"error": "there is no such tool"}
