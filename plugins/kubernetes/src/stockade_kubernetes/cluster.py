"""One cluster, as the official client is configured for it: asked by plain requests.

The client reads kubeconfigs and service accounts, renews tokens and makes TLS connections. Its
generated calls and models are not used: a pod is read and written as JSON, which takes a tenth
of the time and is the same for all of the client's versions.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException

__all__ = ["NOT_REACHED", "Cluster", "ClusterError"]

#: A status for: no answer at all.
NOT_REACHED = 0
_POOL = 64
_CONNECT_SECONDS = 10.0
_SOON = (429, 500, 502, 503, 504)
_PAUSE_SECONDS = 0.25
_MOST_PAUSE_SECONDS = 5.0
_PODS = "/api/v1/namespaces/{namespace}/pods"


class ClusterError(Exception):
    """The API server refused, failed, or did not answer."""

    def __init__(
        self, message: str, status: int, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status  #: HTTP's, or NOT_REACHED
        self.reason = reason  #: the API's own word, such as AlreadyExists
        self.retry_after = retry_after
        #: Nothing was asked of it: nobody listened.
        self.unreached = False

    @property
    def gone(self) -> bool:
        return self.status in (404, 410)

    @property
    def soon(self) -> bool:
        """Whether asking again, with nothing changed, may help."""
        return self.status == NOT_REACHED or self.status in _SOON


class Cluster:
    """Safe from any thread, and for one process: a forked child makes one of its own."""

    def __init__(
        self,
        configuration: Configuration,
        namespace: str,
        again: Callable[[], Configuration] | None = None,
    ) -> None:
        """``again`` reads the configuration anew, for a token that the server knows no more."""
        self._again = again
        self.configuration = configuration
        self.namespace = namespace
        configuration.connection_pool_maxsize = _POOL
        # Asking again is this class's own affair, since not all may be asked twice.
        configuration.retries = False
        self._client = ApiClient(configuration)
        self._http: urllib3.PoolManager = self._client.rest_client.pool_manager
        self._lock = threading.Lock()
        #: What is known of the cluster for a while, by a word for it: see ``once``.
        self._known: dict[str, tuple[float, Any]] = {}

    @property
    def server(self) -> str:
        return str(self.configuration.host).rstrip("/")

    @property
    def pods(self) -> str:
        """The path of the namespace's pods."""
        return _PODS.format(namespace=self.namespace)

    def headers(self) -> dict[str, str]:
        """What says who asks; a token that has expired is renewed by the client's own hook."""
        found: dict[str, str] = {}
        settings: Any = self.configuration.auth_settings()
        for setting in settings.values():
            if setting.get("in") == "header" and setting.get("value"):
                found[setting["key"]] = setting["value"]
        return found

    def renew(self) -> None:
        """Read anew who asks. The client's hook does so for a token whose end it knows; one that
        came from a file, or that was taken back, it keeps for ever."""
        if self._again is None:
            return
        try:
            fresh = self._again()
        except (ConfigException, OSError):
            return  # the old one's refusal says enough
        self.configuration.api_key = fresh.api_key
        self.configuration.api_key_prefix = fresh.api_key_prefix
        self.configuration.refresh_api_key_hook = fresh.refresh_api_key_hook

    # -- requests --------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        seconds: float,
        query: Mapping[str, Any] | None = None,
        again: bool = True,
    ) -> Any:
        """Send one request and read the answer's JSON, within ``seconds``.

        ``again``: a failure of the server's is waited out, as long as its ``Retry-After`` says,
        while the time lasts. Raises ClusterError.
        """
        until = time.monotonic() + seconds
        pause = _PAUSE_SECONDS
        renewed = False
        while True:
            try:
                left = max(0.1, until - time.monotonic())
                with_body = self._request(method, path, body, left, query)
                try:
                    return json.loads(with_body.data or b"null")
                finally:
                    with_body.release_conn()
            except ClusterError as error:
                if error.status == 401 and not renewed:
                    renewed = True
                    self.renew()
                    continue
                wait = pause if error.retry_after is None else error.retry_after
                if not again or not error.soon or time.monotonic() + wait > until:
                    raise
                time.sleep(wait)
                pause = min(_MOST_PAUSE_SECONDS, 2 * pause)
            except (urllib3.exceptions.HTTPError, ValueError) as error:
                raise ClusterError(f"its answer broke off: {error}", NOT_REACHED) from error

    def lines(
        self, path: str, query: Mapping[str, Any], seconds: float
    ) -> Generator[dict[str, Any], None, None]:
        """The events of a watch, for ``seconds`` at most; it may end before. Close it. Raises
        ClusterError."""
        whole = {**query, "watch": "1", "timeoutSeconds": max(1, int(seconds))}
        answer = self._request("GET", path, None, seconds + 2, whole)
        rest = b""
        try:
            for piece in answer.stream(65_536):
                *full, rest = (rest + piece).split(b"\n")
                for line in full:
                    if line.strip():
                        yield json.loads(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return  # whoever watches looks again
        finally:
            # It is in the middle of an answer, so nothing else can be asked over it.
            answer.close()

    def _request(
        self,
        method: str,
        path: str,
        body: object,
        seconds: float,
        query: Mapping[str, Any] | None,
    ) -> urllib3.HTTPResponse:
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "User-Agent": "stockade", **self.headers()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        timeout = urllib3.Timeout(connect=min(seconds, _CONNECT_SECONDS), read=seconds)
        try:
            answer: Any = self._http.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=timeout,
                retries=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failed = ClusterError(f"no answer from {self.server}: {error}", NOT_REACHED)
            failed.unreached = isinstance(
                error, (urllib3.exceptions.NewConnectionError, ConnectionRefusedError)
            )
            raise failed from error
        if 200 <= answer.status <= 299:
            return answer  # type: ignore[no-any-return]
        try:
            body = bytes(answer.data)
        except (urllib3.exceptions.HTTPError, OSError):
            body = b""  # its status says enough
        finally:
            answer.release_conn()
        raise refused(answer.status, body, answer.headers)

    # -- what is asked once in a while -----------------------------------------------

    def known(self, word: str, seconds: float) -> Any:
        """What was kept by that word within the last ``seconds``, or None."""
        with self._lock:
            found = self._known.get(word)
        if found is None or time.monotonic() - found[0] > seconds:
            return None
        return found[1]

    def keep(self, word: str, value: Any) -> Any:
        """Have ``known`` give this."""
        with self._lock:
            self._known[word] = (time.monotonic(), value)
        return value

    def close(self) -> None:
        """Close its connections."""
        self._http.clear()


def refused(status: int, body: bytes, headers: Mapping[str, str]) -> ClusterError:
    """An answer that says no, in the API's words."""
    try:
        said = json.loads(body)
        message, reason = str(said.get("message") or ""), str(said.get("reason") or "")
    except (ValueError, AttributeError):
        message, reason = body.decode("utf-8", "replace").strip()[:300], ""
    after = headers.get("Retry-After") or headers.get("retry-after")
    wait = float(after) if after and after.isdigit() else None
    return ClusterError(message or f"HTTP status {status}", status, reason, wait)
