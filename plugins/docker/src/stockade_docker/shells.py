"""Images without a shell: another's busybox is put into one of theirs, once an engine.

The engine's own exec would run programs in such an image as it is, but it can end none of
them with its children, so no deadline would hold. With a shell beside the image's own files
everything holds that holds elsewhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import struct
import tarfile
from collections.abc import Iterator

import attrs
import docker
from docker.errors import NotFound

from stockade.errors import SandboxStartError
from stockade_docker.create import HELPER
from stockade_docker.engine import FAILURES
from stockade_docker.sandbox import ContainerSandbox

__all__ = ["DEFAULT_SHELL", "FOLDER", "key_of", "known", "with_shell"]

_log = logging.getLogger(__name__)

#: Linked statically, so it runs beside whatever an image holds.
DEFAULT_SHELL = "busybox:musl"
#: Where it stands in the image; last on the search path, so that the image's own come first.
FOLDER = "/.stockade/bin"
_REPOSITORY = "stockade-shell"
_USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_USUAL_SHELL = "/bin/sh"
#: More than any busybox is.
_MOST_BYTES = 32 << 20
_PROGRAM_HEADER_INTERPRETER = 3


@attrs.frozen
class _Donor:
    """What a shell's image gives."""

    busybox: bytes = attrs.field(repr=False)
    names: tuple[str, ...]  #: what it is called as, "sh" among them


def key_of(*identities: str) -> str:
    """What tells an image apart that is made of those with these ids."""
    return hashlib.sha256("\n".join(identities).encode()).hexdigest()[:32]


def known(api: docker.APIClient, key: str) -> str | None:
    """The image of this key, where it was made. Raises one of FAILURES."""
    found = api.images(filters={"label": f"{HELPER}={key}"})
    return str(found[0]["Id"]) if found else None


def with_shell(api: docker.APIClient, image: str, shell: str, key: str, owner: str) -> str:
    """Make, of two images on the engine, one that is the first with a shell beside it, and
    return its id. It stays on the engine, as an image that was pulled does, under ``key``.

    ``owner`` stands on the containers that this needs for a moment. Raises ImageNotFound
    for ``shell``, SandboxStartError where that holds no busybox that could run anywhere,
    and one of FAILURES.
    """
    donor = _donor(api, shell, owner)
    environment = (api.inspect_image(image).get("Config") or {}).get("Env") or []
    given = dict(entry.partition("=")[::2] for entry in environment)
    path = json.dumps(f"{given.get('PATH') or _USUAL_PATH}:{FOLDER}").replace("$", "\\$")
    with _helper(api, image, owner) as container:
        # What a script's first line, and C's system(), look for.
        usual = not _has(api, container, _USUAL_SHELL)
        api.put_archive(container, "/", _packed(donor, usual=usual))
        made = api.commit(
            container, repository=_REPOSITORY, tag=key,
            changes=[f"ENV PATH={path}", f"LABEL {HELPER}={key}"],
        )  # fmt: skip
    _log.warning("image %s has no shell; it is used with that of %s", image, shell)
    return str(made["Id"])


@contextlib.contextmanager
def _helper(api: docker.APIClient, image: str, owner: str) -> Iterator[str]:
    """A container that never runs, to read an image's files or to add some."""
    made = api.create_container(
        image, entrypoint=["sh"], network_disabled=True, labels={HELPER: owner}
    )
    try:
        yield made["Id"]
    finally:
        ContainerSandbox.remove(api, made["Id"])


def _has(api: docker.APIClient, container: str, path: str) -> bool:
    try:
        pieces, _ = api.get_archive(container, path)
    except NotFound:
        return False
    for _ in pieces:  # to its end, so that the connection can be used again
        pass
    return True


def _donor(api: docker.APIClient, shell: str, owner: str) -> _Donor:
    """The busybox of an image, checked."""
    with _helper(api, shell, owner) as container:
        try:
            pieces, _ = api.get_archive(container, "/bin")
            archive = _bounded(pieces, shell)
        except FAILURES as error:
            raise _unfit(shell, f"its /bin cannot be read ({error})") from error
    files: dict[str, bytes] = {}
    names: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            name = member.name.rpartition("/")[2]
            if name in ("", ".", ".."):
                continue
            if member.isreg():
                files[name] = (tar.extractfile(member) or io.BytesIO()).read()
            elif member.issym() or member.islnk():
                names[name] = member.linkname.rpartition("/")[2]
    # Which of the names is the file and which are links to it, each image has in its own way.
    file = names.get("busybox", "busybox")
    if file not in files:
        raise _unfit(shell, "it has no /bin/busybox")
    if not _is_static(files[file]):
        raise _unfit(shell, "its busybox needs libraries that the other image may lack")
    called = {name for name, target in names.items() if target in (file, "busybox")}
    return _Donor(files[file], tuple(sorted((called | {file, "sh"}) - {"busybox"})))


def _bounded(pieces: Iterator[bytes], shell: str) -> bytes:
    archive = bytearray()
    for piece in pieces:
        archive += piece
        if len(archive) > _MOST_BYTES:
            raise _unfit(shell, "its /bin is larger than any busybox")
    return bytes(archive)


def _is_static(program: bytes) -> bool:
    """Whether it is an ELF program that names no interpreter."""
    try:
        if program[:4] != b"\x7fELF":
            return False
        order = "<" if program[5] == 1 else ">"
        wide = program[4] == 2
        offset = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", program, 32 if wide else 28)
        size, count = struct.unpack_from(f"{order}HH", program, 54 if wide else 42)
        kinds = [
            struct.unpack_from(f"{order}I", program, offset[0] + at * size)[0]
            for at in range(count)
        ]
    except (IndexError, struct.error):
        return False
    return _PROGRAM_HEADER_INTERPRETER not in kinds


def _packed(donor: _Donor, *, usual: bool) -> bytes:
    """The archive that is unpacked at the image's root; with ``usual`` a /bin/sh is in it."""
    out = io.BytesIO()
    inside = FOLDER.strip("/")
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in (inside.partition("/")[0], inside):
            head = tarfile.TarInfo(folder)
            head.type, head.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(head)
        head = tarfile.TarInfo(f"{inside}/busybox")
        head.mode, head.size = 0o755, len(donor.busybox)
        tar.addfile(head, io.BytesIO(donor.busybox))
        links = [(f"{inside}/{name}", "busybox") for name in donor.names]
        links += [(_USUAL_SHELL.strip("/"), f"{FOLDER}/busybox")] * usual
        for name, target in links:
            head = tarfile.TarInfo(name)
            head.type, head.linkname = tarfile.SYMTYPE, target
            tar.addfile(head)
    return out.getvalue()


def _unfit(shell: str, why: str) -> SandboxStartError:
    return SandboxStartError(
        f"image {shell} cannot give its shell to one that has none: {why}; name another by the "
        f"option shell, such as {DEFAULT_SHELL}.",
        retryable=False,
    )
