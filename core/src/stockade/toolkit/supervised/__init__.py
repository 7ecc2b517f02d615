"""Executions by the static supervisor inside a sandbox, over one framed connection.

For every wall that can start one program and hold its standard input and output. The wall
starts ``[path, "serve"]`` (see :mod:`stockade_supervisor`) and hands the two streams over as a
:class:`Transport`; :class:`SupervisedSandbox` does the rest of the ``Sandbox`` interface.
"""

from __future__ import annotations

from stockade.toolkit.supervised.attached import AttachedSandbox
from stockade.toolkit.supervised.ends import LinkLost
from stockade.toolkit.supervised.link import Hello, Link
from stockade.toolkit.supervised.request import StartRequest
from stockade.toolkit.supervised.running import Death
from stockade.toolkit.supervised.sandbox import SupervisedSandbox
from stockade.toolkit.supervised.transport import OneLine, PipeTransport, SocketTransport, Transport

__all__ = [
    "AttachedSandbox",
    "Death",
    "Hello",
    "Link",
    "LinkLost",
    "OneLine",
    "PipeTransport",
    "SocketTransport",
    "StartRequest",
    "SupervisedSandbox",
    "Transport",
    "egress",
]
