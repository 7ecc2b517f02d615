"""Targets of the microsandbox wall: a root folder becomes an image, without a VM."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path

import pytest

import stockade
from stockade.errors import ConfigError

pytest.importorskip("stockade_microsandbox", reason="pip install stockade-microsandbox (tox -e vm)")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/sh").write_text("#!/bin/sh\n")
    (folder / "bin/sh").chmod(0o755)
    os.symlink("/etc/shadow", folder / "link")
    os.mkfifo(folder / "pipe")
    return folder


def test_a_folder_is_packed_as_roots_and_nothing_is_followed(root: Path, tmp_path: Path) -> None:
    from stockade_microsandbox import images

    layer = str(tmp_path / "layer.tar")
    digest = images._pack(str(root), layer)
    with tarfile.open(layer) as archive:
        members = {member.name: member for member in archive}
    assert set(members) == {"bin", "bin/sh", "link", "etc/passwd"}
    assert members["link"].issym()
    assert {(member.uid, member.gid) for member in members.values()} == {(0, 0)}
    assert members["bin/sh"].mode == 0o755
    assert images._pack(str(root), layer) == digest


def test_the_archive_is_as_docker_save_writes_it(root: Path, tmp_path: Path) -> None:
    from stockade_microsandbox import images

    layer, made = str(tmp_path / "layer.tar"), str(tmp_path / "image.tar")
    digest = images._pack(str(root), layer)
    images._write_image(made, layer, digest, "stockade/x:latest")
    with tarfile.open(made) as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(read("manifest.json"))
        assert manifest["RepoTags"] == ["stockade/x:latest"]
        config = json.loads(read(manifest["Config"]))
        assert config["rootfs"]["diff_ids"] == [f"sha256:{digest}"]
        assert len(read(manifest["Layers"][0])) == os.path.getsize(layer)


def test_a_change_is_seen(root: Path) -> None:
    from stockade_microsandbox import images

    before = images._look(str(root))
    assert images._look(str(root)) == before
    (root / "bin/sh").write_text("#!/bin/sh\nexit 1\n")
    assert images._look(str(root)) != before


@pytest.mark.parametrize("target", ["-rf", "a b", "a\nb"])
def test_what_is_no_image_is_refused(target: str) -> None:
    from stockade_microsandbox import images

    with pytest.raises(ConfigError, match="no image's name"):
        images.check_target(target)


def test_a_folder_without_a_shell_is_named_by_the_probe(tmp_path: Path) -> None:
    from stockade_microsandbox import images

    (check,) = images.target_checks(str(tmp_path))
    assert not check.ok
    assert "bin/sh" in check.remedy
    (check,) = images.target_checks(str(tmp_path / "none.tar"))
    assert not check.ok


def test_selecting_it_imports_none_of_the_package() -> None:
    provider = stockade.provider("microsandbox:python:3.12-slim?pull=never")
    assert provider.wall.target == "python:3.12-slim"
