"""The contract, held to e2b over `stockade serve` on this machine, in front of walls that are
here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plugins.e2b.conftest import need_parts
from plugins.server.conftest import need
from plugins.server.serving import made_key, serving
from stockade.session import Session
from stockade.testing import ProviderConformance

need_parts()

_AWAY = {"E2B_API_URL": "http://127.0.0.1:9"}
#: The server gives its caller one user, so the supervisor is of the programs' own. It is hidden
#: from them, so none can speak for another; but they can end it or stop it, and then the session
#: is lost. Where a service lets its caller be root, as E2B's cloud does, they cannot.
_ONE_USER = "the server gives one user, so programs may signal the supervisor: the session is lost"
_DEVIATIONS = {
    "D16_signals_to_what_reports_cost_no_session": _ONE_USER,
    "D16_signals_to_who_waits_for_code_hold_none_up": _ONE_USER,
}
_CONFIG = """
[serve]
max_sandboxes = 200

[serve.templates.base]
provider = "{provider}"
"""


class OverServe:
    """A server of the class's own, to which the bare name leads."""

    template = ""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def served(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        need(cls.template)
        file = tmp_path_factory.mktemp("served") / "stockade.toml"
        key = made_key(file, "suite")
        file.write_text(file.read_text() + _CONFIG.format(provider=cls.template))
        with (
            serving("--config", str(file), key=key) as found,
            pytest.MonkeyPatch.context() as patch,
        ):
            for name in ("E2B_DOMAIN", "E2B_SANDBOX_URL", "E2B_DEBUG"):
                patch.delenv(name, raising=False)
            patch.setenv("E2B_API_URL", found.url)
            patch.setenv("E2B_API_KEY", key)
            yield

    def kill_sandbox(self, session: Session) -> None:
        from stockade_e2b.sandbox import E2bSandbox

        sandbox = session._record.sandbox
        assert isinstance(sandbox, E2bSandbox)
        sandbox.box.kill()


class TestE2bLocal(OverServe, ProviderConformance):
    deviations = _DEVIATIONS
    title = "e2b-serve-local"
    provider = "e2b"
    elsewhere = _AWAY
    template = "local?network_enabled=true"


class TestE2bDocker(OverServe, ProviderConformance):
    deviations = _DEVIATIONS
    title = "e2b-serve-docker"
    provider = "e2b"
    elsewhere = _AWAY
    template = "docker:stockade-test/python?pull=never&network_enabled=true"


class TestE2bBusybox(OverServe, ProviderConformance):
    deviations = _DEVIATIONS
    title = "e2b-serve-busybox"
    provider = "e2b"
    elsewhere = _AWAY
    template = "docker:stockade-test/busybox?pull=never&network_enabled=true"
