"""The provider string (A1, A2, A7)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade import Mount, ProviderStringError, SandboxConfig
from stockade.selection._spec import Preference, ProviderString, split_options
from stockade.values.options import as_int
from stockade.wall import Option

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,8}", fullmatch=True)
SPECS = st.builds(
    ProviderString,
    NAMES,
    st.none() | TEXT.filter(bool),
    st.dictionaries(TEXT.filter(bool), TEXT, max_size=3),
)


@given(SPECS)
def test_A1_parsing_and_rendering_round_trip(spec: ProviderString) -> None:
    text = str(spec)
    assert ProviderString.parse(text) == spec
    assert str(ProviderString.parse(text)) == text


@given(st.lists(SPECS, min_size=1, max_size=3, unique_by=str).map(tuple))
def test_A1_alternatives_round_trip(specs: tuple[ProviderString, ...]) -> None:
    wanted = Preference(specs)
    assert Preference.parse(str(wanted)) == wanted
    assert Preference.parse([str(spec) for spec in specs]) == wanted
    assert Preference.parse(wanted) is wanted


@given(st.text())
def test_A1_any_text_parses_or_says_why(text: str) -> None:
    try:
        spec = ProviderString.parse(text)
    except ProviderStringError as error:
        assert str(error)
    else:
        assert ProviderString.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "name", "target", "options"),
    [
        ("landlock", "landlock", None, {}),
        ("docker:python:3.12-slim", "docker", "python:3.12-slim", {}),
        (
            "docker:reg:5000/a/b@sha256:ff?memory_mb=256",
            "docker",
            "reg:5000/a/b@sha256:ff",
            {"memory_mb": "256"},
        ),
        ("x:/a%20b?user=1%3A2&labels=a=b", "x", "/a b", {"user": "1:2", "labels": "a=b"}),
        ("x:a%7Cb", "x", "a|b", {}),
    ],
)
def test_A1_forms(text: str, name: str, target: str | None, options: dict[str, str]) -> None:
    assert ProviderString.parse(text) == ProviderString(name, target, options)
    assert str(ProviderString.parse(text)).count("?") == bool(options)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name"),
        ("-x", "name"),
        ("a b", "name"),
        ("a,b", r"alternatives are written a \| b"),
        ("a | b", "one is expected here; write '%7C'"),
        ("a:", "empty"),
        ("a?", "no option"),
        ("a?b", "no value"),
        ("a?=1", "no name"),
        ("a?b=1&b=2", "'b' is given twice"),
        ("a?b=%zz", "'%25'"),
        ("a?b=%ff", "UTF-8"),
        ("a:%00", "NUL"),
    ],
)
def test_A2_wrong_strings_say_what(text: str, says: str) -> None:
    with pytest.raises(ProviderStringError, match=says):
        ProviderString.parse(text)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ("kata:a|gvisor:b?memory_mb=256|bubblewrap", "kata:a | gvisor:b | bubblewrap"),
        (" a \n|\tb ", "a | b"),
        (["a", "b:x | c"], "a | b:x | c"),
        (("a", ProviderString("b")), "a | b"),
        (ProviderString("a", "x|y"), "a:x%7Cy"),
        ("a:x | a:y", "a:x | a:y"),
    ],
)
def test_A7_alternatives_are_whole(given: Any, labels: str) -> None:
    assert Preference.parse(given).label == labels


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "no provider is named"),
        ("a | | b", "'' is not a provider's name"),
        ("a|", "'' is not"),
        ("a | a", "'a' stands there twice"),
        (["a?b=1", "a?b=1"], "'a' stands there twice"),
        (b"a", "text, not int"),
        ({"a"}, "not set"),
        ([None], "not NoneType"),
        (7, "not int"),
    ],
)
def test_A7_wrong_alternatives_say_what(given: Any, says: str) -> None:
    with pytest.raises(ProviderStringError, match=says):
        Preference.parse(given)


def test_A2_an_unknown_option_names_the_nearest() -> None:
    own = {"runtime": Option(str)}
    with pytest.raises(ProviderStringError, match="'memry_mb'.*did you mean 'memory_mb'"):
        split_options(ProviderString.parse("x?memry_mb=1"), own)
    with pytest.raises(ProviderStringError, match="'runtme'.*did you mean 'runtime'"):
        split_options(ProviderString.parse("x?runtme=1"), own)


@pytest.mark.parametrize(
    "option",
    [
        "memory_mb=lots",
        "memory_mb=1_0",
        "memory_mb=",
        "timeout_seconds=1s",
        "network_enabled=2",
        "mounts=/a",
        "labels=a",
        "env_vars=SECRET",
    ],
)
def test_A2_a_value_that_does_not_convert_names_the_option(option: str) -> None:
    name, _, value = option.partition("=")
    with pytest.raises(ProviderStringError, match=f"'{name}'") as caught:
        split_options(ProviderString.parse(f"x?{option}"), {})
    assert name != "env_vars" or value not in str(caught.value)


def test_A1_options_set_fields_and_the_walls_own() -> None:
    spec = ProviderString.parse(
        "x?memory_mb=none&cpu_limit=1.5&network_enabled=true&network_allow="
        "&env_vars=A=1,B=a%252Cb&mounts=/h:/t,/i:/u:rw&depth=3"
    )
    changes, own = split_options(spec, {"depth": Option(as_int)})
    assert own == {"depth": 3}
    config = SandboxConfig(**changes)
    assert (config.memory_mb, config.cpu_limit, config.network_enabled) == (None, 1.5, True)
    assert dict(config.env_vars) == {"A": "1", "B": "a,b"}
    assert config.mounts == (Mount("/h", "/t"), Mount("/i", "/u", read_only=False))


CONFIGS = st.builds(
    SandboxConfig,
    timeout_seconds=st.floats(0.001, 1000),
    memory_mb=st.none() | st.integers(1, 10**6),
    cpu_limit=st.none() | st.floats(0.01, 64),
    read_only_fs=st.booleans(),
    env_vars=st.dictionaries(TEXT.filter(lambda t: bool(t) and "=" not in t), TEXT, max_size=2),
    user=st.none() | st.sampled_from(["1000", "1000:1000"]),
    output_policy=st.sampled_from(["drain", "end"]),
    network_allow=st.lists(st.sampled_from(["pypi.org", "a,b", "x%2C"]), max_size=2).map(tuple),
    mounts=st.lists(
        st.builds(Mount, TEXT.filter(bool), st.just("/in"), st.booleans()), max_size=2
    ).map(tuple),
)


@given(CONFIGS)
def test_A1_a_configuration_round_trips_through_a_string(config: SandboxConfig) -> None:
    text = str(ProviderString.of("x", None, config))
    changes, _ = split_options(ProviderString.parse(text), {})
    assert SandboxConfig(**changes) == config


def test_B4_a_string_shows_no_values_in_its_repr() -> None:
    assert "hunter2" not in repr(ProviderString.parse("x?env_vars=TOKEN=hunter2"))
