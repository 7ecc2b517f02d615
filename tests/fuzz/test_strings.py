"""What callers write: provider strings with options, settings, configurations."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import attrs
from hypothesis import given
from hypothesis import strategies as st

from conftest import examples
from core.walls import ScriptedWall
from stockade import ConfigError, ProviderStringError, SandboxConfig, Settings
from stockade.errors import StockadeError
from stockade.files._shell import _infos
from stockade.selection._spec import ProviderString, split_options
from stockade.values.options import render

FIELDS = [field.name for field in attrs.fields(SandboxConfig)]
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "none",
            "true",
            "1",
            "0",
            "-1",
            "1e999",
            "nan",
            "inf",
            "1_0",
            "٣",
            "0x10",
            "/",
            "a=b,c=d",
            "/a:/b:rw",
            "8080,9090",
            "%00",
            "%",
            "%zz",
            "a" * 3000,
        ]
    ),
    st.integers(-(10**30), 10**30).map(str),
    st.floats(allow_nan=True).map(str),
)


@examples(200)
@given(st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=8)), VALUES, max_size=4))
def test_any_options_make_a_configuration_or_say_why(options: dict[str, str]) -> None:
    text = "w?" + "&".join(f"{quote(name)}={quote(value)}" for name, value in options.items())
    try:
        changes, _ = split_options(ProviderString.parse(text), ScriptedWall.options)
        config = SandboxConfig().with_(**changes)
    except (ProviderStringError, ConfigError) as error:
        assert str(error)
        return
    # What was understood can be written down again, and means the same.
    again = "w?" + "&".join(f"{name}={quote(render(getattr(config, name)))}" for name in changes)
    if changes:
        second, _ = split_options(ProviderString.parse(again), ScriptedWall.options)
        assert SandboxConfig().with_(**second) == config


ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
    st.binary(max_size=10),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
)


@examples(200)
@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, min_size=1, max_size=2))
def test_any_values_make_a_configuration_or_say_why(values: dict[str, Any]) -> None:
    try:
        config = SandboxConfig(**values)
    except ConfigError as error:
        assert str(error)
        return
    repr(config)
    hash(config)


@examples(100)
@given(
    st.dictionaries(
        st.sampled_from([field.name for field in attrs.fields(Settings)]), ANYTHING, max_size=3
    )
)
def test_any_settings(values: dict[str, Any]) -> None:
    try:
        Settings(**values)
        Settings.from_environment({f"STOCKADE_{k.upper()}": str(v) for k, v in values.items()})
    except ConfigError as error:
        assert str(error)


ROWS = [b"f", b"81a4", b"d", b"644", b"1.5", b"-", b"l", b"\xff", b"", b"9" * 5000, b"..", b"1"]


@examples(200)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(ROWS), max_size=20).map(b"\0".join),
        st.lists(st.sampled_from(ROWS), max_size=20).map(b"/".join),
    )
)
def test_a_listing_of_any_bytes(data: bytes) -> None:
    try:
        list(_infos(data))
    except StockadeError as error:
        assert str(error)
