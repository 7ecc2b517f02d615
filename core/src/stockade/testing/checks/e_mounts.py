"""Checks of E9: what of the host may be shown inside, and what comes of it."""

from __future__ import annotations

import os
import socket

import pytest

from stockade.capabilities import Feature
from stockade.config import Mount
from stockade.errors import ConfigError, StockadeError
from stockade.testing.base import ConformanceBase, expect
from stockade.testing.checks.folders import open_folder
from stockade.testing.circumstances import alone_only

__all__ = ["Mounts"]

#: A user of the host that no check and no account is.
_ANOTHER = 4711

#: Makes files that take their owner's rights, in each way that there is.
_RISE = """
import os
def made(name, mode=0o755):
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, mode))
    return name
tries = (
    lambda: os.chmod(made("set-user"), 0o4755),
    lambda: os.chmod(made("set-group"), 0o2755),
    lambda: made("opened", 0o6755),
    lambda: os.mknod("node", 0o106755),
)
for attempt in tries:
    try: attempt()
    except OSError: pass
"""


class Mounts(ConformanceBase):
    """Folders of the host inside."""

    @alone_only
    def test_E9_dangerous_mounts_are_refused(self) -> None:
        provider = self.make_provider()
        if not provider.wall.capabilities[Feature.MOUNTS]:
            config = provider.config.with_(mounts=(Mount("/srv", "/srv"),))
            self.refused("E9", lambda: provider.create_session("a", config), Feature.MOUNTS)
            return
        with open_folder() as folder:
            (folder / "link").symlink_to("/etc")
            home = os.path.expanduser("~")
            for source in ("/", "/etc", "/proc", "/home", home, "/var/run", f"{folder}/link"):
                self._refuses_to_mount(source)

    def test_E9_a_mount_is_read_only_unless_asked_otherwise(self) -> None:
        self.need(Feature.MOUNTS, Feature.SHELL)
        with open_folder() as folder:
            (folder / "file").write_text("of the host\n")
            folder.chmod(0o777)
            line = "cat /mnt/file; echo x > /mnt/new && echo written"
            with self.session(mounts=(Mount(str(folder), "/mnt"),)) as session:
                seen = session.shell(line).stdout
                expect(seen == "of the host\n", "E9", "to read, not to write", seen)
            with self.session(mounts=(Mount(str(folder), "/mnt", read_only=False),)) as session:
                seen = session.shell(line).stdout
                expect(seen == "of the host\nwritten\n", "E9", "to write, since asked", seen)

    @alone_only
    def test_E9_a_folder_with_a_service_is_refused(self) -> None:
        """Its socket is a way out that no network namespace closes (E3)."""
        self.need(Feature.MOUNTS)
        with open_folder() as folder, socket.socket(socket.AF_UNIX) as service:
            (folder / "inner").mkdir()
            service.bind(str(folder / "inner" / "service.sock"))
            for source in (folder / "inner", folder):
                self._refuses_to_mount(str(source))

    @alone_only
    def test_E9_a_folder_of_another_user_is_refused(self) -> None:
        self.need(Feature.MOUNTS)
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder to somebody else")
        with open_folder() as folder:
            (folder / "theirs").mkdir()
            os.chown(folder / "theirs", _ANOTHER, _ANOTHER)
            self._refuses_to_mount(str(folder / "theirs"))

    def _refuses_to_mount(self, source: str) -> None:
        provider = self.make_provider()
        config = provider.config.with_(mounts=(Mount(source, "/m"),))
        try:
            handle = provider.create_session("a", config)
        except (ConfigError, StockadeError):
            return
        provider.destroy_session("a", handle.session_id)
        expect(False, "E9", f"a refusal to mount {source}", "a session")

    def test_E9_no_file_of_the_callers_gives_its_rights_away(self) -> None:
        """Who runs a set-user-id file on the host is its owner there."""
        self.need(Feature.MOUNTS, Feature.CODE)
        with self.shared() as session:
            self.need_python(session)
        with open_folder() as folder:
            mount = Mount(str(folder), str(folder), read_only=False)
            with self.session(mounts=(mount,)) as session:
                session.code(f"import os; os.chdir({str(folder)!r})\n{_RISE}")
            files = {path.name: path.lstat() for path in folder.iterdir()}
            expect(bool(files), "E9", "files that were written", "none")
            risen = [
                name
                for name, at in files.items()
                if at.st_mode & 0o6000 and at.st_uid in (0, os.geteuid())
            ]
            expect(not risen, "E9", "no set-user-id and no set-group-id file", risen)
