"""The file: one JSON line an execution, what was asked and what came of it.

Argument vectors, code and output stand in it as they are. Of standard input and of variables
there are digests alone, with a salt of the file's own: they may be secrets, and all that a
replay needs is to know the same ones again.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import hmac
import json
import os
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

import stockade
from stockade import errors
from stockade.errors import SandboxLostError, StockadeError
from stockade.results import CodeError, Display, SandboxResult, Verdict
from stockade.wall import ExecRequest

__all__ = ["SCHEMA", "Entry", "NotRecordedError", "Recording", "RecordingError", "Writing"]

#: The format; a file of another one is refused.
SCHEMA = 1
_MARK = "stockade_recording"
#: How much of a request a message shows.
_SHOWN = 160


class RecordingError(StockadeError):
    """The file cannot be read or written, or is no recording."""


class NotRecordedError(StockadeError, LookupError):
    """The recording has no answer to this request, or no further one."""


@attrs.frozen(kw_only=True)
class Entry:
    """One recorded execution: a request's description, and its result or error."""

    session: int  #: which session of the recording it was in, counted from 1
    request: Mapping[str, Any]
    end: SandboxResult | StockadeError


# -- requests ------------------------------------------------------------------


def describe(request: ExecRequest, session_folder: str, salt: bytes) -> dict[str, Any]:
    """What makes a request the same: all of it but its deadline and its id.

    ``session_folder`` is the session's working folder, to which the request's is relative in it:
    another wall may have it elsewhere.
    """
    folder = request.working_dir
    if f"{folder}/".startswith(f"{session_folder}/"):
        folder = posixpath.relpath(folder, session_folder)
    variables = sorted(request.env.items())
    rarely = {"live_input": request.live_input, "merge": request.merge, "user": request.user}
    return {
        **{name: value for name, value in rarely.items() if value},
        "form": str(request.form),
        "argv": list(request.argv),
        "script": request.script,
        "language": request.language,
        "state": request.state,
        "working_dir": folder,
        "env": {
            "names": [name for name, _ in variables],
            "digest": _digest(salt, json.dumps(variables).encode()),
        },
        "stdin": {"bytes": len(request.stdin), "digest": _digest(salt, request.stdin)},
    }


def _digest(salt: bytes, data: bytes) -> str:
    return hmac.new(salt, data, hashlib.sha256).hexdigest()


def _key(request: Mapping[str, Any]) -> str:
    return json.dumps(request, sort_keys=True)


def _words(request: Mapping[str, Any]) -> str:
    what = request["argv"] if request["form"] == "argv" else request["script"]
    return f"{request['form']} {what!r:.{_SHOWN}}"


# -- results -------------------------------------------------------------------


def _from_result(result: SandboxResult) -> dict[str, Any]:
    plain = attrs.asdict(result, recurse=False)
    plain["verdict"] = str(result.verdict)
    for name in ("stdout_bytes", "stderr_bytes"):
        plain[name] = _from_bytes(plain[name])
    plain["value"] = result.value and _from_display(result.value)
    plain["displays"] = [_from_display(one) for one in result.displays]
    plain["error"] = result.error and attrs.asdict(result.error)
    return plain


def _to_result(plain: Mapping[str, Any]) -> SandboxResult:
    given = dict(plain)
    for name in ("stdout_bytes", "stderr_bytes"):
        given[name] = _to_bytes(given[name])
    value, error = given.get("value"), given.get("error")
    shown = {
        "value": None if value is None else _to_display(value),
        "displays": tuple(_to_display(one) for one in given.get("displays", ())),
        "error": None if error is None else CodeError(**error),
    }
    return SandboxResult(**{**given, **shown, "verdict": Verdict(given["verdict"])})


def _from_display(one: Display) -> dict[str, Any]:
    """Each form: text as it is, else base64."""
    return {
        mime: data if isinstance(data, str) else {"base64": base64.b64encode(data).decode()}
        for mime, data in one.data.items()
    }


def _to_display(plain: Mapping[str, Any]) -> Display:
    return Display(
        {mime: data if isinstance(data, str) else _to_bytes(data) for mime, data in plain.items()}
    )


def _from_bytes(data: bytes) -> Any:
    """Text where that says it all, so that people can read it; else base64."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _to_bytes(plain: Any) -> bytes:
    if isinstance(plain, str):
        return plain.encode("utf-8")
    return base64.b64decode(plain["base64"], validate=True)


def _from_error(error: StockadeError) -> dict[str, Any]:
    plain: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    plain["fields"] = {
        name: value
        for name, value in vars(error).items()
        if isinstance(value, (str, int, float, bool, type(None)))
    }
    if isinstance(error, SandboxLostError) and error.partial is not None:
        plain["partial"] = _from_result(error.partial)
    return plain


def _to_error(plain: Mapping[str, Any]) -> StockadeError:
    """An error of stockade's own by its name, never anything that a file could otherwise name."""
    kind = getattr(errors, plain["type"]) if plain["type"] in errors.__all__ else StockadeError
    error: StockadeError = kind.__new__(kind)
    error.args = (str(plain["message"]),)
    for name, value in plain["fields"].items():
        setattr(error, str(name), value)
    if isinstance(error, SandboxLostError):
        error.partial = _to_result(plain["partial"]) if "partial" in plain else None
    return error


# -- writing -------------------------------------------------------------------


class Writing:
    """A recording that is being made. Not safe from several threads by itself."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Begin anew; a file that is there is replaced, if it is a recording.

        Raises RecordingError.
        """
        self.path = os.fspath(path)
        self._salt = os.urandom(16)
        try:
            if os.path.exists(self.path) and os.path.getsize(self.path):
                Recording.read(self.path)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise RecordingError(
                f"the recording {self.path!r} cannot be written: {error.strerror}; give a path "
                "that this user may write."
            ) from error
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass")
        head = {_MARK: SCHEMA, "stockade": stockade.__version__, "salt": self._salt.hex()}
        self._line(head)

    def add(
        self,
        session: int,
        request: ExecRequest,
        session_folder: str,
        end: SandboxResult | StockadeError,
    ) -> None:
        """Write one execution, whole, before this returns. Raises RecordingError."""
        line: dict[str, Any] = {"session": session}
        line["request"] = describe(request, session_folder, self._salt)
        if isinstance(end, SandboxResult):
            line["result"] = _from_result(end)
        else:
            line["error"] = _from_error(end)
        self._line(line)

    def close(self) -> None:
        """End the file; may be called again."""
        self._file.close()

    def _line(self, data: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(data) + "\n")
            self._file.flush()
        except (OSError, ValueError) as error:
            raise RecordingError(
                f"the recording {self.path!r} cannot be written: {error}; it ends with the "
                "execution before."
            ) from error


# -- reading -------------------------------------------------------------------


class Recording:
    """A recording that was made: which requests it has, and their answers in order."""

    def __init__(self, path: str, salt: bytes, entries: Iterable[Entry]) -> None:
        self.path = path
        self.entries = tuple(entries)
        self._salt = salt
        self._answers: dict[str, list[Entry]] = collections.defaultdict(list)
        for entry in self.entries:
            self._answers[_key(entry.request)].append(entry)

    @classmethod
    def read(cls, path: str | os.PathLike[str], session: int | None = None) -> Recording:
        """Read a file; with ``session`` that session of it alone, counted from 1.

        Raises RecordingError that names the first wrong line.
        """
        name = os.fspath(path)
        try:
            with open(name, encoding="utf-8", errors="surrogatepass") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise RecordingError(f"the recording {name!r} cannot be read: {error}.") from error
        salt = _salt(name, lines[0] if lines else "")
        entries = []
        for number, line in enumerate(lines[1:], 2):
            try:
                entries.append(_entry(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RecordingError(
                    f"{name!r}, line {number}, is no recorded execution: {error}. Record it anew."
                ) from error
        wanted = [entry for entry in entries if session in (None, entry.session)]
        if session is not None and not wanted:
            raise RecordingError(f"{name!r} has no session {session} with an execution.")
        return cls(name, salt, wanted)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of the code in it."""
        found = [entry.request["language"] for entry in self.entries]
        return tuple(dict.fromkeys(word for word in found if word is not None))

    def answer(
        self, request: ExecRequest, session_folder: str, before: int, *, repeat: bool = False
    ) -> SandboxResult | StockadeError:
        """What came of the request when it was asked as the ``before``-th before it, from 0 on.

        With ``repeat`` the last answer stands for all further ones. Raises NotRecordedError.
        """
        asked = describe(request, session_folder, self._salt)
        answers = self._answers.get(_key(asked))
        if answers is None:
            raise NotRecordedError(self._unknown(asked))
        if before >= len(answers) and not repeat:
            raise NotRecordedError(
                f"{self.path!r} has {len(answers)} answers to {_words(asked)} and was asked once "
                "more; record it anew, or give the option repeat=true."
            )
        return answers[min(before, len(answers) - 1)].end

    def key(self, request: ExecRequest, session_folder: str) -> str:
        """What is equal for equal requests."""
        return _key(describe(request, session_folder, self._salt))

    def _unknown(self, asked: Mapping[str, Any]) -> str:
        """What was asked, and in what the recorded request differs that is most like it."""
        head = f"{self.path!r} has no answer to {_words(asked)}"
        differing = [
            [name for name in asked if entry.request.get(name) != asked[name]]
            for entry in self.entries
            if _words(entry.request) == _words(asked)
        ]
        if differing:
            differing.sort(key=len)
            names = ", ".join(differing[0])
            return f"{head} with this {names}; it has one with another. Record it anew."
        return f"{head}; record it anew with that request."


def _salt(name: str, line: str) -> bytes:
    try:
        head = json.loads(line)
        schema, salt = head[_MARK], bytes.fromhex(head["salt"])
    except (ValueError, KeyError, TypeError):
        raise RecordingError(
            f"{name!r} is no recording; make one with `stockade run --record {name} …`."
        ) from None
    if schema != SCHEMA:
        raise RecordingError(
            f"{name!r} is a recording of format {schema!r}, and {SCHEMA} is known here; record it "
            "anew."
        )
    return salt


def _entry(line: Any) -> Entry:
    request = line["request"]
    for name in ("form", "argv", "script", "language"):
        request[name]
    if type(line["session"]) is not int:
        raise TypeError("its session is no whole number")
    end = _to_result(line["result"]) if "result" in line else _to_error(line["error"])
    return Entry(session=line["session"], request=request, end=end)
