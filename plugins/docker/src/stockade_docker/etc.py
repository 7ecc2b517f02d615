"""Files of /etc that a container is started with: who its user is, where localhost is (E3).

An engine makes /etc/hosts for a container with a network, and an account for nobody; podman
makes both. Where an engine shares this machine's files they are written here for as long as
the container takes to start: what is mounted needs its name no longer. Two or three such
mounts take no time that could be measured (runc), or some milliseconds (runsc). A container's
own root is no place for them: it is read-only from its first moment, for the engine as well.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import attrs

from stockade._leftover import Leftover
from stockade.wall import OpenRequest
from stockade_docker.create import Shape
from stockade_docker.engine import EngineInfo

__all__ = ["USER", "Files", "can_be_shown", "leftovers", "made", "remove", "texts"]

#: What a session's user is called, where the caller did not choose one.
USER = "sandbox"
#: A folder is named by this and the session's id; what is mounted shows that inside.
_PREFIX = "stockade-etc-"
#: Beside it, first to come and last to go, a link whose text is the owner, for ``gc``.
_OWNER = "stockade-etc-of-"
_HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.0.1 sandbox\n"


@attrs.frozen
class Files:
    """Where they are on the engine's machine: in ``folder``, by the place that each takes."""

    folder: str
    sources: dict[str, str]


def can_be_shown(info: EngineInfo, shape: Shape) -> bool:
    """Whether a container of this engine can be started with files of this machine."""
    # SELinux lets a container read what bears its label alone.
    return shape.local_engine and not info.labels_files


def texts(request: OpenRequest, *, own_user: bool, podman: bool) -> dict[str, str]:
    """Each file's place inside and its content.

    ``own_user``: the user is the wall's choice, so no image can have an account for it. One
    that the caller chose is the image's to know.
    """
    found: dict[str, str] = {}
    # Podman's own holds what the host's has (E7).
    if podman or not request.config.network_enabled:
        found["/etc/hosts"] = _HOSTS
    if own_user:
        user, _, group = (request.config.user or "").partition(":")
        found["/etc/passwd"] = (
            "root:x:0:0:root:/root:/bin/sh\n"
            f"{USER}:x:{user}:{group}::{request.config.working_dir}:/bin/sh\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        )
        found["/etc/group"] = f"root:x:0:\n{USER}:x:{group}:\nnogroup:x:65534:\n"
    return found


@contextlib.contextmanager
def made(request: OpenRequest, contents: dict[str, str]) -> Iterator[Files]:
    """The files, for the time in which a container is started. Raises OSError."""
    place = _places()[0]
    folder = os.path.join(place, _PREFIX + request.session_id)
    os.symlink(request.owner or "-", os.path.join(place, _OWNER + request.session_id))
    try:
        os.mkdir(folder)
        # Whatever the umask: an engine may map root to somebody.
        os.chmod(folder, 0o755)  # noqa: S103
        sources = {}
        for place, text in contents.items():
            path = os.path.join(folder, os.path.basename(place))
            with open(path, "x", encoding="ascii") as file:
                file.write(text)
            os.chmod(path, 0o644)
            sources[place] = path
        yield Files(folder, sources)
    finally:
        remove(folder)


def _places() -> list[str]:
    """Where they may be: first where a name shows nothing of this machine's folders, since
    what is mounted shows its path inside."""
    found = dict.fromkeys(("/dev/shm", tempfile.gettempdir()))
    return [place for place in found if os.path.isdir(place) and os.access(place, os.W_OK)]


def leftovers() -> list[Leftover]:
    """What this user's dead processes left of them."""
    found = []
    for place in _places():
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            found += [_leftover(entry) for entry in entries if _is_ours(entry)]
    return found


def _is_ours(entry: os.DirEntry[str]) -> bool:
    if not entry.name.startswith(_OWNER) or not entry.is_symlink():
        return False
    try:
        return entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return False


def _leftover(entry: os.DirEntry[str]) -> Leftover:
    session_id = entry.name[len(_OWNER) :]
    folder = os.path.join(os.path.dirname(entry.path), _PREFIX + session_id)
    try:
        owner = os.readlink(entry.path)
    except OSError:
        owner = ""
    # By a name of its own: whoever removes what bears the session's takes its record with it, and
    # that is its container's, which would be nobody's then (C9).
    return Leftover(
        session_id=f"etc-{session_id}",
        handle=folder,
        owner=owner,
        running=False,
        words=f"folder {folder}",
    )


def remove(folder: str) -> None:
    """Remove such a folder; gone already is well too. Raises OSError."""
    place, name = os.path.split(folder)
    with contextlib.suppress(FileNotFoundError):
        for file in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, file))
        os.rmdir(folder)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(place, _OWNER + name[len(_PREFIX) :]))
