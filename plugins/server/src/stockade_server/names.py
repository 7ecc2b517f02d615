"""Names of users and groups, as the sandbox's own ``/etc/passwd`` and ``/etc/group`` have them."""

from __future__ import annotations

from stockade.aio import AsyncSession
from stockade.errors import StockadeError

__all__ = ["Names"]

_MOST_BYTES = 256 * 1024  #: of a file, whose beginning is read


class Names:
    """Those of one sandbox, looked up once: what has no name keeps its number."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._users: dict[int, str] | None = None
        self._groups: dict[int, str] = {}

    async def owner(self, uid: int | None) -> str:
        """A user's name, or the number; empty where the wall has no owners."""
        await self._look()
        return "" if uid is None else (self._users or {}).get(uid, str(uid))

    async def group(self, gid: int | None) -> str:
        """A group's name, or the number; empty where the wall has no owners."""
        await self._look()
        return "" if gid is None else self._groups.get(gid, str(gid))

    async def _look(self) -> None:
        if self._users is None:
            self._groups = await self._read("/etc/group")
            self._users = await self._read("/etc/passwd")

    async def _read(self, path: str) -> dict[int, str]:
        """The file is the sandbox's, so it may hold anything."""
        try:
            data = await self._session.files.read(path, length=_MOST_BYTES)
        except (OSError, StockadeError):
            return {}
        found: dict[int, str] = {}
        for line in data.decode("utf-8", "replace").splitlines():
            fields = line.split(":")
            if len(fields) < 3 or not fields[0] or len(fields[0]) > 64:
                continue
            if fields[2].isascii() and fields[2].isdigit() and len(fields[2]) < 11:
                found.setdefault(int(fields[2]), fields[0])
        return found
