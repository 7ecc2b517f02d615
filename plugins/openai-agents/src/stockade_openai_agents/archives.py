"""Archives of a workspace, as the SDK's snapshots hold them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from agents.sandbox.util.tar_utils import should_skip_tar_member

__all__ = ["without"]


def without(data: bytes, skip: Iterable[Path]) -> io.BytesIO:
    """The archive, opened, with no member below those paths. Raises tarfile.TarError."""
    leave = set(skip)
    if not leave:
        return io.BytesIO(data)
    kept = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as source,
        tarfile.open(fileobj=kept, mode="w") as copy,
    ):
        for member in source:
            if not should_skip_tar_member(member.name, skip_rel_paths=leave, root_name=None):
                copy.addfile(member, source.extractfile(member) if member.isreg() else None)
    kept.seek(0)
    return kept
