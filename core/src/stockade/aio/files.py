"""A session's files, awaited."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from stockade.aio.calls import in_thread
from stockade.files import Files

if TYPE_CHECKING:
    from stockade.session import Session

__all__ = ["AsyncFiles"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _awaited(
    method: Callable[Concatenate[Files, _P], _T],
) -> Callable[Concatenate[AsyncFiles, _P], Coroutine[Any, Any, _T]]:
    """The same call, with the same parameters and words, in one of core's threads."""

    @functools.wraps(method)
    async def call(self: AsyncFiles, /, *args: _P.args, **options: _P.kwargs) -> _T:
        work = functools.partial(method, self._files, *args, **options)
        return await in_thread(self._runtime, work)

    return call


class AsyncFiles:
    """See :class:`stockade.files.Files`: every call of it is here, awaited."""

    def __init__(self, session: Session) -> None:
        self._files = session.files
        self._runtime = session.provider.runtime

    read = _awaited(Files.read)
    read_text = _awaited(Files.read_text)
    write = _awaited(Files.write)
    write_text = _awaited(Files.write_text)
    list = _awaited(Files.list)
    stat = _awaited(Files.stat)
    exists = _awaited(Files.exists)
    make_dir = _awaited(Files.make_dir)
    remove = _awaited(Files.remove)
    put_tree = _awaited(Files.put_tree)
    get_tree = _awaited(Files.get_tree)
