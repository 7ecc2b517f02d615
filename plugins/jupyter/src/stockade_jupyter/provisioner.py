"""The kernel provisioner: Jupyter's interface over a kernel in a session of stockade's."""

from __future__ import annotations

import asyncio
import functools
import signal
from collections.abc import Mapping
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Dict, Unicode

import stockade
from stockade.aio.calls import in_thread
from stockade.system.versions import untested
from stockade_jupyter.doors import CHANNELS
from stockade_jupyter.kernel import Kernel, inside

__all__ = ["StockadeProvisioner"]

#: The versions of jupyter-client that the tests ran with, the first and the last.
_TESTED = ("8.10.0", "8.10.0")
_AGENT = "jupyter"
_POLL_SECONDS = 0.1


def configuration(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the configuration from a kernelspec's JSON: there a mount is a list."""
    found = dict(fields)
    if "mounts" in found:
        found["mounts"] = tuple(stockade.Mount(*one) for one in found["mounts"])
    return found


class StockadeProvisioner(KernelProvisionerBase):
    """Made by Jupyter for each kernel whose kernelspec names the provisioner ``stockade``."""

    provider: Unicode[str, str | bytes] = Unicode(
        "local", config=True, help="A provider string, or several with '|' between them."
    )
    fields: Dict[str, Any] = Dict(config=True, help="Fields of stockade's configuration.")
    _kernel: Kernel | None = None
    _reported = False

    # -- starting -----------------------------------------------------------------

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """The server's own environment stays out; the kernelspec's variables go in."""
        extra = kwargs.pop("extra_arguments", [])
        prepared = await super().pre_launch(**kwargs)
        environment = prepared["env"]
        prepared["env"] = {name: environment[name] for name in self.kernel_spec.env}
        if (warning := untested("stockade-jupyter", "jupyter-client", *_TESTED)) is not None:
            self.log.warning(warning)
        return {**prepared, "cmd": [*self.kernel_spec.argv, *extra]}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        fields = configuration(self.fields)
        if "lifetime_seconds=" not in self.provider:
            fields.setdefault("lifetime_seconds", None)  # as long as its notebook
        kernel = self._kernel = self._kernel or Kernel(self.provider, fields, _AGENT)
        self._reported = False
        folder = inside(kwargs.get("cwd"), fields.get("mounts", ()))
        manager = self.parent
        assert manager is not None, "Jupyter makes provisioners for a manager's kernel"
        messages = manager.session
        key = {
            "key": messages.key.decode("ascii"),
            "signature_scheme": messages.signature_scheme,
            "kernel_name": manager.kernel_name,
        }
        start = functools.partial(kernel.start, cmd, kwargs["env"], folder, key)
        try:
            # A start that is cancelled is awaited to its end: what it had opened by then ends too.
            base = await in_thread(stockade.default_runtime(), start, cancel=kernel.give_up)
        except BaseException:
            await self.cleanup()
            raise
        self.connection_info = {
            "transport": "ipc",
            "ip": base,
            "key": messages.key,
            "signature_scheme": messages.signature_scheme,
            **{name: number for number, name in enumerate(CHANNELS, 1)},  # type: ignore[typeddict-item]
        }
        return self.connection_info

    # -- while it runs --------------------------------------------------------------

    @property
    def has_process(self) -> bool:
        return self._kernel is not None and self._kernel.running

    async def poll(self) -> int | None:
        if self._kernel is None:
            return 0
        code = self._kernel.ended()
        if code is not None and not self._reported and (reason := self._kernel.reason()):
            self._reported = True
            self.log.error("the kernel behind %s has ended: %s", self.provider, reason)
        return code

    async def wait(self) -> int | None:
        while (code := await self.poll()) is None:  # noqa: ASYNC110 - event loops come and go
            await asyncio.sleep(_POLL_SECONDS)
        if self._kernel is not None:
            self._kernel.forget()
        return code

    async def send_signal(self, signum: int) -> None:
        if self._kernel is None:
            return
        if signum == signal.SIGKILL:
            await self.kill()
        elif signum:
            await asyncio.to_thread(self._kernel.signal, signal.Signals(signum).name)

    # -- the end ----------------------------------------------------------------------

    async def shutdown_requested(self, restart: bool = False) -> None:
        self._reported = True  # it ends since it was asked to

    async def terminate(self, restart: bool = False) -> None:
        self._reported = True
        await self.send_signal(signal.SIGTERM)

    async def kill(self, restart: bool = False) -> None:
        """What the kernel started ends with it; a kernel that is started again finds its files."""
        self._reported = True
        if self._kernel is not None:
            await asyncio.to_thread(self._kernel.cancel)

    async def cleanup(self, restart: bool = False) -> None:
        """Called last, and before a restart, which goes on in the same sandbox."""
        if self._kernel is None or restart:
            return
        kernel, self._kernel = self._kernel, None
        await in_thread(stockade.default_runtime(), kernel.close)
