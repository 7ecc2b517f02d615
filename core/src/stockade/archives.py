"""Tar archives between host and sandbox; what comes out is hostile (F3)."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

from stockade.errors import ArchiveError, ConfigError

__all__ = ["pack", "unpack"]


def pack(source: str | os.PathLike[str]) -> bytes:
    """The content of a host folder; owners and times are left out, links stay links."""
    root = Path(source)
    if not root.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(root))

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member if member.isfile() or member.isdir() or member.issym() else None

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for entry in sorted(root.iterdir()):
            archive.add(entry, arcname=entry.name, filter=plain)
    return buffer.getvalue()


def unpack(data: bytes, destination: str | os.PathLike[str]) -> None:
    """Write an archive's files below ``destination``, and nothing anywhere else.

    Refuses absolute names, ``..``, links out, hard links, devices and pipes with
    ArchiveError before anything is written; drops setuid, setgid and sticky bits.
    """
    root = Path(destination)
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = archive.getmembers()
            for member in members:
                _check(member)
            _no_way_through_links(members)
            root.mkdir(parents=True, exist_ok=True)
            for member in members:
                _write(archive, member, root)
    except tarfile.TarError as error:
        raise ArchiveError(f"the archive from the sandbox is damaged: {error}") from error


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _check(member: tarfile.TarInfo) -> None:
    if member.name.startswith("/") or ".." in _parts(member.name) or "\0" in member.name:
        raise ArchiveError(f"the archive holds {member.name!r}, which leads out; it is refused.")
    if not (member.isfile() or member.isdir() or member.issym()):
        raise ArchiveError(
            f"the archive holds {member.name!r}, which is neither file, folder nor link; "
            "remove it in the sandbox, or bring out its files one by one."
        )
    if member.issym() and _leads_out(member):
        raise ArchiveError(
            f"the archive holds the link {member.name!r} to {member.linkname!r}, which leads "
            "out; remove it in the sandbox, or bring out the files one by one."
        )


def _leads_out(member: tarfile.TarInfo) -> bool:
    if member.linkname.startswith("/") or not member.linkname:
        return True
    depth = len(_parts(member.name)) - 1
    for part in _parts(member.linkname):
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _no_way_through_links(members: list[tarfile.TarInfo]) -> None:
    """Refuse an entry below a link: a lexical check of targets holds only without these."""
    links = {_parts(member.name) for member in members if member.issym()}
    for member in members:
        parts = _parts(member.name)
        if any(parts[:count] in links for count in range(1, len(parts))):
            raise ArchiveError(f"the archive holds {member.name!r} below a link; it is refused.")
    for member in members:
        target = _parts(member.linkname) if member.issym() else ()
        base = _parts(member.name)[:-1]
        if any((*base, *target[:count])[:size] in links
               for count in range(1, len(target))
               for size in range(1, len(base) + count + 1)):  # fmt: skip
            raise ArchiveError(
                f"the archive holds the link {member.name!r}, which leads through another link; "
                "it is refused."
            )


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    parts = _parts(member.name)
    if not parts:
        return
    parent = root
    for part in parts[:-1]:
        parent = parent / part
        _real_folder(parent)
    path = parent / parts[-1]
    if member.isdir():
        _real_folder(path)
        return
    if path.is_symlink() or path.is_file():
        path.unlink()
    if member.issym():
        path.symlink_to(member.linkname)
        return
    content = archive.extractfile(member)
    assert content is not None
    # O_EXCL and O_NOFOLLOW: what we removed above cannot come back as a link.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, stat.S_IMODE(member.mode) & 0o777), "wb") as file:
        while block := content.read(1 << 20):
            file.write(block)


def _real_folder(path: Path) -> None:
    """Make it; a link in its place would lead out of the destination."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigError(
            f"{path} is in the way: it is a link or a file where a folder belongs; "
            "choose an empty destination."
        )
    path.mkdir(exist_ok=True)
