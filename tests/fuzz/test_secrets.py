"""What the gateway makes of any request and any answer, where a secret goes (E11)."""

from __future__ import annotations

import contextlib
import gzip

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import examples
from stockade.config import Secret
from stockade.toolkit.egress import RefusedError
from stockade_secrets.bodies import Body
from stockade_secrets.frames import Frames
from stockade_secrets.masking import Forms, Masker
from stockade_secrets.placeholders import Placeholders
from stockade_secrets.requests import Draft, Place

VALUE = "a-value/of 32+characters&more-it"
SECRET = Secret("key", "env:KEY", hosts=["good.example"], query="key", header="Authorization")
OTHER = Secret("other", "env:OTHER", hosts=["other.example"])
PLACEHOLDERS = Placeholders([SECRET, OTHER])
OWN, AWAY = (PLACEHOLDERS.by_name[name].encode() for name in ("key", "other"))
PLACE = Place("good.example", 443, [SECRET])

LINES = st.lists(
    st.sampled_from(
        [
            b"Host: good.example",
            b"Host: evil.example",
            b"Authorization: Bearer " + OWN,
            b"authorization: " + OWN,
            b"AUTHORIZATION:" + AWAY,
            b"X-Key: " + OWN,
            b"Connection: authorization",
            b"Connection: upgrade",
            b"Upgrade: websocket",
            b"Content-Length: 3",
            b"Content_Length: 4",
            b"Transfer-Encoding: chunked",
            b"X-HTTP-Method-Override: DELETE",
            b"Range: bytes=0-1",
            b" fold",
            b"\r",
            b"\n",
            b"Bad : x",
            b"A: \xff",
        ]
    ),
    max_size=4,
).flatmap(lambda lines: st.sampled_from([lines, [b"Host: good.example", *lines]]))
TARGETS = st.sampled_from(
    [
        b"/",
        b"/a?key=" + OWN,
        b"/a?b=" + OWN,
        b"/?key=" + OWN + b"&key=x",
        b"/" + OWN,
        b"/a?key=" + AWAY,
        b"//evil.example/",
        b"https://evil.example/",
        b"*",
        b"/a b",
        b"/#x",
    ]
)


def written(method: bytes, target: bytes, lines: list[bytes]) -> bytes | None:
    """What goes to the server, or None where it is refused."""
    program = h11.Connection(h11.SERVER)
    program.receive_data(b"\r\n".join([method + b" " + target + b" HTTP/1.1", *lines, b"", b""]))
    try:
        event = program.next_event()
        if not isinstance(event, h11.Request):
            return None
        draft = Draft(event, PLACE, PLACEHOLDERS)
        request = draft.filled({"key": VALUE})
    except (RefusedError, h11.ProtocolError):
        return None
    data = h11.Connection(h11.CLIENT).send(request)
    assert data is not None
    assert (VALUE.encode() in data or b"32%2Bcharacters" in data) == ("key" in draft.secrets)
    return data


@examples(300)
@given(st.sampled_from([b"GET", b"POST", b"TRACE", b"CONNECT"]), TARGETS, LINES)
@example(b"GET", b"/", [b"Host: good.example", b"Authorization: Bearer " + OWN])
def test_a_server_reads_one_request_for_its_own_host(
    method: bytes, target: bytes, lines: list[bytes]
) -> None:
    data = written(method, target, lines)
    if data is None:
        return
    head = data.removesuffix(b"\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 0 and b"\n" not in head.replace(b"\r\n", b"")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert names.count(b"host") == 1 and b"\r\nHost: good.example" in head
    assert not {b"range", b"content_length"} & {*names}
    assert OWN not in data and AWAY not in data, "a placeholder that is passed on was misplaced"
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert data.split(b" ")[0] not in (b"TRACE", b"CONNECT") and data.split(b" ")[1][:1] in b"/*"


def test_the_plain_case_is_filled() -> None:
    lines = [b"Host: good.example", b"Authorization: Bearer " + OWN]
    data = written(b"GET", b"/", lines)
    assert data is not None and b"Authorization: Bearer " + VALUE.encode() in data


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=40), st.just(VALUE.encode()), st.just(VALUE[:9].encode()), st.just(b"\n")
    ),
    max_size=12,
)


@examples(200)
@given(PIECES, st.lists(st.integers(1, 60), min_size=1, max_size=40), st.booleans())
def test_no_stream_brings_the_value(pieces: list[bytes], cuts: list[int], packed: bool) -> None:
    sent = b"".join(pieces)
    data = gzip.compress(sent) if packed else sent
    headers = [("Content-Encoding", "gzip")] if packed else []
    body = Body(
        h11.Response(status_code=200, headers=headers), Masker(Forms(lambda: [VALUE])), passes=False
    )
    out, at = b"", 0
    for cut in [*cuts, len(data)]:
        out += b"".join(body.feed(data[at : at + cut]))
        at += cut
    out += body.end()
    assert out == sent.replace(VALUE.encode(), b"*" * len(VALUE))


@examples(200)
@given(st.binary(max_size=200))
def test_any_bytes_of_a_server_are_frames_or_refused(data: bytes) -> None:
    with contextlib.suppress(RefusedError):
        Frames(Masker(Forms(lambda: [VALUE]))).feed(data)
