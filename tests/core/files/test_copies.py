"""Configurations, results, handles and every error pickle, copy and compare (B5)."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import attrs
import pytest

import stockade
from core.walls import make_provider
from stockade import (
    Chunk,
    ExecutionHandle,
    ExecutionStatus,
    Mount,
    OutputPolicy,
    SandboxConfig,
    SandboxResult,
    SessionHandle,
    SessionStatus,
    Settings,
    Stream,
    Verdict,
    errors,
)
from stockade._entries import Missed

CONFIG = SandboxConfig(
    memory_mb=64,
    env_vars={"A": "1", "B": "second7"},
    mounts=(Mount("/srv", "/data"),),
    labels={"team": "red"},
    output_policy=OutputPolicy.END,
)
RESULT = SandboxResult(
    exit_code=137, verdict=Verdict.TIMED_OUT, signal=9, stdout_bytes=b"\0\xff", duration_seconds=1.5
)
VALUES = [
    CONFIG,
    SandboxConfig(),
    Settings(max_sessions=4),
    RESULT,
    Chunk(Stream.STDERR, b"x"),
    SessionHandle("a", "ses-1"),
    SessionHandle("a", "ses-1", SessionStatus.FAILED),
    ExecutionHandle("exe-1", "a", "ses-1", ExecutionStatus.FAILED, RESULT),
]

#: What the classes with arguments of their own are made of; all others take a message.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "LanguageError": ("cobol", ["python", "sh"]),
    "WorkingDirectoryError": ("/no/such",),
    "FileTooLargeError": ("/big", 7),
    "TransferError": ("/tree", [Missed("p", "it is a FIFO")]),
    "SessionNotFoundError": ("ses-1",),
    "SandboxLostError": ("it died", RESULT),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "SandboxStartError": {"retryable": False, "nothing_began": True},
    "LedgerError": {"retryable": True},
}


def every_class() -> list[type[errors.StockadeError]]:
    """Every class of the tree that is loaded, those of other modules too."""
    found: list[type[errors.StockadeError]] = [errors.StockadeError]
    for kind in found:
        found += [below for below in kind.__subclasses__() if below not in found]
    return [kind for kind in found if kind.__module__.partition(".")[0] == "stockade"]


def made(kind: type[errors.StockadeError]) -> errors.StockadeError:
    arguments = ARGUMENTS.get(kind.__name__, ("what went wrong",))
    return kind(*arguments, **OPTIONS.get(kind.__name__, {}))


def by_pickle(protocol: int) -> Callable[[Any], Any]:
    return lambda value: pickle.loads(pickle.dumps(value, protocol))


COPIES: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    *(by_pickle(number) for number in range(2, 6)),
]
NAMES = ["copy", "deepcopy", *(f"pickle{number}" for number in range(2, 6))]


@pytest.mark.parametrize("copied", COPIES, ids=NAMES)
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_B5_values(value: Any, copied: Callable[[Any], Any]) -> None:
    other = copied(value)
    assert type(other) is type(value) and other == value and hash(other) == hash(value)
    assert repr(other) == repr(value)
    for field in attrs.fields(type(value)):
        name = field.name.lstrip("_")
        if name != "live":
            assert getattr(other, name) == getattr(value, name)


def test_B5_a_copied_configuration_is_as_immutable_as_its_original() -> None:
    for copied in COPIES:
        other = copied(CONFIG)
        with pytest.raises(TypeError):
            other.env_vars["C"] = "3"
        assert "second7" not in repr(other) and other.with_(memory_mb=8).memory_mb == 8
        assert other != CONFIG.with_(env_vars={"A": "2"})
    assert dict(CONFIG.env_vars) == {"A": "1", "B": "second7"} == CONFIG.env_vars
    assert "second7" not in repr(CONFIG.env_vars), "values show nowhere (B4)"


@pytest.mark.parametrize("copied", COPIES, ids=NAMES)
@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_B5_every_error(kind: type[errors.StockadeError], copied: Callable[[Any], Any]) -> None:
    error = made(kind)
    error.args = (*error.args,)
    other = copied(error)
    assert type(other) is kind and str(other) == str(error) and repr(other) == repr(error)
    assert other.args == error.args and vars(other) == vars(error)
    assert other.retryable == error.retryable
    assert other == error and hash(other) == hash(error)


def test_B5_errors_differ_by_kind_words_and_what_they_carry() -> None:
    one = stockade.ConfigError("x")
    assert one == stockade.ConfigError("x") and one != stockade.ConfigError("y")
    assert one != stockade.ProviderStringError("x") and one != ValueError("x")
    assert stockade.LedgerError("x") != stockade.LedgerError("x", retryable=True)
    assert stockade.SandboxLostError("x") != stockade.SandboxLostError("x", RESULT)
    assert len({one, stockade.ConfigError("x"), stockade.ConfigError("y")}) == 2


class OfAPlugin(errors.SandboxStartError):
    """An author's own, with arguments of its own and one that must be named."""

    def __init__(self, code: int, *, where: str) -> None:
        super().__init__(f"{where} said {code}", retryable=code > 500)
        self.code = code


def test_B5_errors_of_plug_ins_too() -> None:
    error = OfAPlugin(503, where="the engine")
    vars(error)["__notes__"] = ["seen twice"]
    for copied in COPIES:
        other = copied(error)
        assert (str(other), other.code, other.retryable) == ("the engine said 503", 503, True)
        assert vars(other)["__notes__"] == ["seen twice"] and other == error


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_escape_sequences_of_untrusted_text_show_escaped(kind: type[errors.StockadeError]) -> None:
    bad = "\x1b[2Jname\r\x07\u202e\x9b1m\ud800"
    error = kind(bad, *ARGUMENTS.get(kind.__name__, ("",))[1:])
    shown = f"{error} {''.join(traceback.format_exception(error))}"
    assert "name" in shown and "\\x1b[2Jname" in shown
    assert not set(bad) - set("[2Jname1m") & set(shown), "an escape sequence reaches a terminal"
    assert "two\nlines" in str(stockade.ConfigError("two\nlines")), "line ends stay"


def test_B5_a_live_handle_copies_as_what_it_is_now() -> None:
    provider = make_provider()
    handle = provider.create_session("a")
    for copied in COPIES:
        other = copied(handle)
        assert other == handle and other.status is SessionStatus.READY
        assert hash(other) == hash(handle)
    kept = pickle.loads(pickle.dumps(handle))
    near = copy.deepcopy(handle)
    provider.destroy_session("a", handle.session_id)
    assert handle.status is SessionStatus.DESTROYED
    assert near.status is SessionStatus.DESTROYED, "in this process a copy stays live"
    assert kept.status is SessionStatus.READY, "a pickle is a record of its moment"
    assert kept != handle


def test_B5_an_error_crosses_from_one_process_to_another() -> None:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        with pytest.raises(stockade.LanguageError, match="it has: sh") as caught:
            pool.submit(raises).result(60)
    assert caught.value.available == ("sh",)


def raises() -> None:
    raise stockade.LanguageError("cobol", ["sh"])
