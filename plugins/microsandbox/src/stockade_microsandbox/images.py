"""What a session starts from: an image by name, an archive of one, or a root folder.

The package can take a root folder as it is, and the guest would then write into the
host's; so a folder is packed into an image of one layer, which every session sees
under a writable layer of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
import tempfile
from typing import IO, Any

from stockade.errors import ConfigError, SandboxStartError
from stockade.system.forks import FreshLock
from stockade.wall import Check
from stockade_microsandbox.loop import call

__all__ = ["check_target", "reference", "target_checks"]

_LOAD_SECONDS = 600.0
_lock = FreshLock()
#: Path to (what it looked like, the image's reference).
_loaded: dict[str, tuple[object, str]] = {}


def is_path(target: str) -> bool:
    return target.startswith(("/", "./", "../"))


def check_target(target: str | None) -> str:
    """The target, or ConfigError where it is none."""
    if not target:
        raise ConfigError(
            "microsandbox needs a target: an image's name (microsandbox:python:3.12-slim), or a "
            "root folder or an archive (microsandbox:/srv/rootfs)."
        )
    if is_path(target):
        return os.path.abspath(target)
    if target.startswith("-") or any(not char.isprintable() or char == " " for char in target):
        raise ConfigError(f"microsandbox:{target!r} is no image's name.")
    return target


def target_checks(target: str) -> list[Check]:
    """For a probe: whether a folder or an archive is there."""
    if not is_path(target):
        return []
    if os.path.isdir(target):
        ok = os.path.exists(os.path.join(target, "bin/sh"))
        return [Check("root folder", ok, target, "" if ok else "it must hold bin/sh")]
    ok = os.path.isfile(target)
    return [Check("archive", ok, target, "" if ok else "write one with docker save -o")]


def reference(target: str) -> str:
    """The name by which the package knows the image; loads a folder or an archive once.

    Raises SandboxStartError, ConfigError.
    """
    if not is_path(target):
        return target
    with _lock:
        look = _look(target)
        known = _loaded.get(target)
        if known is not None and known[0] == look:
            return known[1]
        name = _load_folder(target) if os.path.isdir(target) else _load(target, None)
        _loaded[target] = (look, name)
        return name


def _look(path: str) -> object:
    """What changes when its content does: sizes and times of all files."""
    if not os.path.lexists(path):
        raise ConfigError(f"microsandbox:{path} is neither a folder nor a file.")
    about = os.stat(path)
    if not stat.S_ISDIR(about.st_mode):
        return (about.st_size, about.st_mtime_ns, about.st_ino)
    seen = hashlib.sha256()
    for folder, _, names in os.walk(path):
        for name in ["", *sorted(names)]:
            entry = os.lstat(os.path.join(folder, name))
            seen.update(f"{folder}/{name} {entry.st_size} {entry.st_mtime_ns}\n".encode())
    return seen.hexdigest()


def _load_folder(path: str) -> str:
    if not os.path.exists(os.path.join(path, "bin/sh")):
        raise ConfigError(f"microsandbox:{path} is no root folder: it holds no bin/sh.")
    with tempfile.TemporaryDirectory(prefix="stockade-microsandbox-") as work:
        layer = os.path.join(work, "layer.tar")
        digest = _pack(path, layer)
        name = f"stockade/folder-{digest[:24]}:latest"
        archive = os.path.join(work, "image.tar")
        _write_image(archive, layer, digest, name)
        return _load(archive, name)


def _pack(path: str, layer: str) -> str:
    """The folder as a tar archive whose files are root's; its hash.

    They are read as this user, owners are not kept, nothing is followed.
    """

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return None if member.isdev() or member.isfifo() else member

    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(os.listdir(path)):
            archive.add(os.path.join(path, name), arcname=name, filter=plain)
        held = archive.getnames()
        if "etc/passwd" not in held:  # the guest's agent looks a user up
            _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    with open(layer, "rb") as file:
        return _hash(file)


def _hash(file: IO[bytes]) -> str:
    seen = hashlib.sha256()
    while piece := file.read(1 << 20):
        seen.update(piece)
    return seen.hexdigest()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    import io

    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mode = 0o644
    archive.addfile(member, io.BytesIO(data))


def _write_image(archive: str, layer: str, digest: str, name: str) -> None:
    """An archive as `docker save` writes it, with this one layer."""
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [],
    }
    data = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(data).hexdigest()}.json"
    layer_name = f"{digest}/layer.tar"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}]
    with tarfile.open(archive, "w") as made:
        _add(made, config_name, data)
        made.add(layer, arcname=layer_name)
        _add(made, "manifest.json", json.dumps(manifest).encode())


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _load(archive: str, name: str | None) -> str:
    from microsandbox import _microsandbox

    async def load() -> Any:
        return await _microsandbox.Image.load(archive, tag=None)

    try:
        handles = call(load, _LOAD_SECONDS)
    except Exception as error:
        raise SandboxStartError(
            f"{archive} could not be loaded as an image: {error}. It is an archive as "
            "`docker save` writes it, or a root folder.",
            retryable=False,
        ) from error
    names = [handle.reference for handle in handles]
    if name is not None:
        return name
    if len(names) != 1:
        raise SandboxStartError(
            f"{archive} holds {len(names)} images; save one alone.", retryable=False
        )
    return str(names[0])
