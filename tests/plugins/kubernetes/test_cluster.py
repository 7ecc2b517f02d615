"""What only a cluster shows: sessions in its pods, what it refuses, and what is done to them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import stockade
from plugins.kubernetes.conftest import pods_of
from stockade.errors import ConfigError, SandboxLostError, SandboxStartError
from stockade.results import Verdict

clusters: Any = pytest.importorskip("stockade_kubernetes.cluster")
errors: Any = pytest.importorskip("stockade_kubernetes.errors")

pytestmark = pytest.mark.slow


def test_a_session_is_one_pod_with_the_supervisor_as_its_program(
    on_cluster: str, admin: Any
) -> None:
    before = pods_of(admin)
    with stockade.open(on_cluster, env_vars={"TOKEN": "hunter2-hunter2"}) as session:
        (name,) = pods_of(admin) - before
        pod = admin.ask("GET", f"{admin.pods}/{name}", seconds=10)
        assert "hunter2" not in str(pod)
        assert session.run(["cat", "/proc/1/comm"]).stdout.strip() == "3"
        assert session.run(["sh", "-c", "cat /proc/1/environ"]).exit_code != 0
        seen = session.shell("env; ls -a /tmp /var/run/secrets 2>&1; cat /etc/resolv.conf").stdout
        assert "KUBERNETES" not in seen and ".stockade" not in seen
        assert "token" not in seen and "nameserver 127.0.0.1" in seen
    assert name not in pods_of(admin)


def test_programs_cannot_end_what_reports_on_them(on_cluster: str) -> None:
    with stockade.open(on_cluster) as session:
        session.shell("kill -9 -1; kill -9 1")
        assert session.run(["echo", "alive"]).stdout == "alive\n"


def test_past_the_memory_limit_a_program_ends_and_the_session_lives(on_cluster: str) -> None:
    with stockade.open(on_cluster, memory_mb=64) as session:
        result = session.code("x = bytearray(500 << 20)", language="python")
        assert result.verdict is Verdict.OUT_OF_MEMORY
        assert session.run(["echo", "alive"]).stdout == "alive\n"


def test_no_file_grows_past_the_bounds_of_the_pod(on_cluster: str) -> None:
    """The kubelet's own file, which all may write, is on the node's disk and counted nowhere."""
    with stockade.open(on_cluster, disk_mb=8) as session:
        line = "dd if=/dev/zero of=/dev/shm/.end bs=1M count=200; wc -c </dev/shm/.end"
        size = int(session.shell(line).stdout.split()[-1])
        assert size <= 65 << 20


def test_a_network_that_is_open_is_refused_by_what_answers(on_cluster: str, admin: Any) -> None:
    before = pods_of(admin)
    with pytest.raises(errors.OpenNetworkError, match="tcp/.*/10250") as caught:
        stockade.open(f"{on_cluster}&context=open")
    assert not caught.value.retryable and pods_of(admin) == before
    with stockade.open(f"{on_cluster}&context=open&network_enabled=true") as session:
        assert "eth0" in session.run(["cat", "/proc/net/route"]).stdout


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ("runtime_class=nosuch", "AdmissionError", "nosuch"),
        ("runtime_class=missing", "AdmissionError", "no runtime for"),
        ("runtime_class=runc-as-gvisor", "AdmissionError", "was to be gVisor"),
        ("seccomp=nosuch.json", "ImageError", "nosuch.json"),
        ("node_selector=disk:none", "UnschedulableError", "node"),
    ],
)
def test_what_the_cluster_lacks_is_refused_by_name(
    on_cluster: str, admin: Any, options: str, kind: str, words: str
) -> None:
    if "runc-as-gvisor" in options:
        body = {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": "runc-as-gvisor"},
            "handler": "runc",
        }
        path = "/apis/node.k8s.io/v1/runtimeclasses"
        with contextlib.suppress(clusters.ClusterError):  # where no earlier run left it
            admin.ask("DELETE", f"{path}/runc-as-gvisor", seconds=10)
        admin.ask("POST", path, body, seconds=10)
    before = pods_of(admin)
    with pytest.raises(SandboxStartError, match=words) as caught:
        stockade.open(f"{on_cluster}&{options}")
    assert type(caught.value).__name__ == kind
    assert pods_of(admin) <= before


def test_an_image_that_is_not_there_is_named(on_cluster: str) -> None:
    provider = on_cluster.replace("stockade-test/python", "stockade-test/nosuch")
    with pytest.raises(errors.ImageError, match=r"stockade-test/nosuch.*ErrImageNeverPull"):
        stockade.open(provider)


def test_a_quota_that_is_used_up_is_no_failure_of_the_cluster(on_cluster: str, admin: Any) -> None:
    path = f"/api/v1/namespaces/{admin.namespace}/resourcequotas"
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    admin.ask("POST", path, {"apiVersion": "v1", "kind": "ResourceQuota", **quota}, seconds=10)
    # What a controller manager writes, which this cluster has none of.
    made = admin.ask("GET", f"{path}/none", seconds=10)
    counted = {**made, "status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}
    admin.ask("PUT", f"{path}/none/status", counted, seconds=10)
    try:
        with pytest.raises(errors.QuotaError, match="exceeded quota: none") as caught:
            stockade.open(on_cluster)
        assert caught.value.retryable
    finally:
        admin.ask("DELETE", f"{path}/none", seconds=10)


def test_a_pod_that_somebody_deletes_is_lost_at_once(on_cluster: str, admin: Any) -> None:
    with stockade.open(on_cluster) as session:
        name = session._record.sandbox.name  # type: ignore[union-attr]
        deleted = threading.Timer(
            1.0,
            lambda: admin.ask(
                "DELETE", f"{admin.pods}/{name}", {"gracePeriodSeconds": 0}, seconds=10
            ),
        )
        deleted.start()
        begun = time.monotonic()
        with pytest.raises(errors.PodDeletedError, match="deleted") as caught:
            session.shell("echo before; sleep 60")
        assert time.monotonic() - begun < 30 and caught.value.retryable
        assert caught.value.partial is not None and caught.value.partial.stdout == "before\n"
        deleted.join()


def test_a_node_that_is_drained_takes_its_sessions_along(on_cluster: str, admin: Any) -> None:
    """As `kubectl drain` does it: by evictions."""
    with stockade.open(on_cluster) as session:
        name = session._record.sandbox.name  # type: ignore[union-attr]
        body = {
            "apiVersion": "policy/v1beta1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": admin.namespace},
        }
        path = f"{admin.pods}/{name}/eviction"
        drained = threading.Timer(1.0, lambda: admin.ask("POST", path, body, seconds=10))
        drained.start()
        begun = time.monotonic()
        with pytest.raises(errors.PodDeletedError) as caught:
            session.shell("echo before; sleep 60")
        assert time.monotonic() - begun < 30 and caught.value.retryable
        assert caught.value.partial is not None and caught.value.partial.stdout == "before\n"
        drained.join()


def test_what_a_dead_process_left_is_found_by_its_labels(on_cluster: str, admin: Any) -> None:
    before = pods_of(admin)
    line = f"import os, stockade; s = stockade.open({on_cluster!r}); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", line], check=False)
    (name,) = pods_of(admin) - before
    wall: Any = stockade.provider(on_cluster).wall
    (left,) = [one for one in wall.leftovers() if one.handle.startswith(f"{name}/")]
    assert left.owner and left.session_id and not left.durable
    # The end of its connection ended the supervisor already; gc removes the pod.
    until = time.monotonic() + 20
    while time.monotonic() < until and name in pods_of(admin):
        stockade.collect()
        for one in wall.leftovers():
            if one.handle == left.handle and not one.running:
                wall.remove(one)
    assert name not in pods_of(admin)


def test_a_durable_session_is_used_by_another_process(on_cluster: str) -> None:
    session = stockade.open(f"{on_cluster}&durable=true", agent_id="a")
    try:
        session.files.write("/workspace/x", b"kept")
        line = (
            "import stockade\n"
            f"s = stockade.attach({session.session_id!r}, agent_id='a')\n"
            "print(s.run(['cat', '/workspace/x']).stdout)\n"
            "print(s.shell('echo forged >/.stockade/supervisor').exit_code)\n"
            "s.detach()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", line], capture_output=True, text=True, check=False
        )
        assert done.stdout.split() == ["kept", "2"], done.stderr
        assert session.run(["cat", "/workspace/x"]).stdout == "kept"
    finally:
        session.close()


def test_root_and_taken_folders_are_refused_before_anything_starts(on_cluster: str) -> None:
    for option in ("user=0", "working_dir=/tmp", "working_dir=/proc/x"):
        with pytest.raises((ConfigError, SandboxLostError)):
            stockade.open(f"{on_cluster}&{option}")
