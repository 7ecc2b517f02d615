"""Ways out of a sandbox whose network is off: E3.

The truth is on the host's side: listeners are started there, and it counts
whether anybody came, not what a program inside said of its attempt.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from typing import Any

from stockade.capabilities import Feature
from stockade.testing.probes.base import Bench, Measured, Outcome, Probe, held_if
from stockade.testing.probes.sight import host_folder

__all__ = ["PROBES"]

_NO_TOOL = 99
#: connect HOST PORT with whatever the sandbox has; the tool's name goes to stdout.
_TCP = """
connect() {
  if command -v python3 >/dev/null; then echo python3; python3 -c '
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)' "$1" "$2"
  elif command -v perl >/dev/null; then echo perl; perl -MIO::Socket::INET -e '
IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1], Timeout => 2) or die' "$1" "$2"
  elif command -v bash >/dev/null; then echo bash; bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2"
  elif command -v nc >/dev/null; then echo nc; nc -w 2 "$1" "$2" </dev/null
  elif command -v wget >/dev/null; then echo wget; wget -T 2 -q -O /dev/null "http://$1:$2/"
  elif command -v curl >/dev/null; then echo curl; curl -m 2 -s "http://$1:$2/"
  else exit 99; fi
}
"""
#: connect to the unix socket at PATH and to the abstract one of NAME.
_UNIX = """
if command -v python3 >/dev/null; then python3 -c '
import contextlib, socket, sys
for name in (sys.argv[1], chr(0) + sys.argv[2]):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.connect(name)' "$SOCKET_PATH" "$SOCKET_NAME"
elif command -v perl >/dev/null; then perl -MSocket -e '
for my $name ($ARGV[0], "\\0$ARGV[1]") {
  socket(my $s, AF_UNIX, SOCK_STREAM, 0) and connect($s, pack("S a*", AF_UNIX, $name)); }' \
  "$SOCKET_PATH" "$SOCKET_NAME"
else exit 99; fi
"""


class Listener:
    """A socket of the host that notes whether anybody connects."""

    def __init__(self, family: int, address: Any) -> None:
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.bind(address)
            self._socket.listen()
        except OSError:
            self._socket.close()
            raise
        self.address = self._socket.getsockname()
        self.reached = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            self.reached.set()
            connection.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        # shutdown wakes the thread out of accept; close alone does not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(1.0)


def _own_addresses() -> Iterator[str]:
    """Loopback, and the address that faces the network, if there is one."""
    yield "127.0.0.1"
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses a route
        address: str = probe.getsockname()[0]
        if not address.startswith("127."):
            yield address


def _off(bench: Bench) -> Measured | None:
    if bench.config.network_enabled:
        return Measured(Outcome.UNKNOWN, "the session was asked to have a network")
    return None


def listeners(bench: Bench) -> Measured:
    """Listeners of the host are out of reach (E3)."""
    if (answer := _off(bench)) is not None:
        return answer
    tried, reached, tool = [], [], ""
    for address in _own_addresses():
        try:
            listener = Listener(socket.AF_INET, (address, 0))
        except OSError:
            continue
        with listener:
            port = listener.address[1]
            result = bench.sh(f"{_TCP}\nconnect {address} {port} 2>/dev/null", timeout=10)
            if result.exit_code == _NO_TOOL:
                return Measured(Outcome.UNKNOWN, "nothing inside opens connections")
            tool = (result.stdout.split() or [""])[0]
            tried.append(address)
            if listener.reached.wait(0.2) or result.success:
                reached.append(address)
    if not tried:
        return Measured(Outcome.UNKNOWN, "this host lets nobody listen on its addresses")
    detail = f"reached {', '.join(reached)}" if reached else f"tried {', '.join(tried)}"
    return held_if(not reached, f"{detail} with {tool}")


def unix_sockets(bench: Bench) -> Measured:
    """Unix sockets of the host, abstract ones too, are out of reach (E3)."""
    if (answer := _off(bench)) is not None:
        return answer
    if not hasattr(socket, "AF_UNIX"):
        return Measured(Outcome.UNKNOWN, "the host has no unix sockets")
    name = f"stockade-{secrets.token_hex(8)}"
    with host_folder() as folder, contextlib.ExitStack() as stack:
        path = folder / "socket"
        ways = {"a path": stack.enter_context(Listener(socket.AF_UNIX, str(path)))}
        path.chmod(0o777)
        with contextlib.suppress(OSError):  # abstract names are Linux's own
            abstract = Listener(socket.AF_UNIX, f"\0{name}")
            ways["an abstract name"] = stack.enter_context(abstract)
        env = {"SOCKET_PATH": str(path), "SOCKET_NAME": name}
        if bench.sh(_UNIX, env=env, timeout=10).exit_code == _NO_TOOL:
            return Measured(Outcome.UNKNOWN, "neither python3 nor perl inside")
        reached = [way for way, listener in ways.items() if listener.reached.wait(0.2)]
    if reached:
        return Measured(Outcome.BROKEN, f"reached through {' and '.join(reached)}")
    return Measured(Outcome.HELD, f"tried {' and '.join(ways)}")


_ROUTES = """
[ -r /proc/net/dev ] || exit 90
while IFS=: read -r name rest; do
  [ -n "$rest" ] && set -- $name && [ "$1" != lo ] && echo "$1"
done < /proc/net/dev
while read -r name to rest; do [ "$to" = 00000000 ] && echo "default-route"; done < /proc/net/route
:
"""


def interfaces(bench: Bench) -> Measured:
    """No interface but loopback, no default route; or none in use (E3).

    A wall on the host's own network stack (Landlock) forbids its use instead:
    then interfaces show, and what counts is that no listener is reached.
    """
    if (answer := _off(bench)) is not None:
        return answer
    result = bench.sh(_ROUTES)
    if result.exit_code == 90:
        return Measured(Outcome.HELD, "none is shown")
    found = result.stdout.split()
    if not found:
        return Measured(Outcome.HELD, "loopback alone")
    closed = listeners(bench).outcome
    detail = f"{', '.join(found)} shown, " + ("closed" if closed is Outcome.HELD else "open")
    return Measured(closed, detail)


_OFF = Feature.NETWORK_OFF

PROBES = (
    Probe(name="network interfaces", clause="E3", feature=_OFF, run=interfaces),
    Probe(name="host's listeners", clause="E3", feature=_OFF, run=listeners),
    Probe(name="host's unix sockets", clause="E3", feature=_OFF, run=unix_sockets),
)
