"""One command that brings up a server, Prometheus and a page, and takes them down again."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.gated_server import until
from tests.http_port import ask, total
from tests.kept_venv import ROOT
from tests.system.prometheus_server import Prometheus
from tests.system.tools import free_port, tool


def test_up_serves_watches_and_ends_on_ctrl_c() -> None:
    """The page is there, Prometheus scrapes it with the rules loaded, the made-up controller calls; then all ends."""
    tool("prometheus")
    listen, http, prometheus = (f"127.0.0.1:{free_port()}" for _ in range(3))
    command = [sys.executable, "deploy/up.py", "--load", f"--listen={listen}", f"--http={http}"]
    process = subprocess.Popen(
        [*command, f"--prometheus={prometheus}", "--", "--solver-threads=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        watching = Prometheus(prometheus, ROOT / ".cache" / "up" / "prometheus.log")
        watching.wait_for("up == 1", 120)
        assert watching.get("rules")["groups"]
        assert "trimtab" in ask(http, "/")[1]
        answered = {"grpc_method": "Rebalance", "grpc_code": "OK"}
        until(lambda: total(ask(http, "/metrics")[1], "grpc_server_handled_total", **answered) > 1)
    finally:
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert f"page        http://{http}/" in said
    assert said.endswith("draining ...\nended\n")
    for address in (http, prometheus):
        with pytest.raises(ConnectionRefusedError):
            ask(address, "/")


def test_up_says_what_is_missing() -> None:
    """In one line that says what to do."""
    taken = free_port()
    command = [sys.executable, "deploy/up.py", f"--listen=127.0.0.1:{taken}", f"--http=127.0.0.1:{taken}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("up: ended with exit code 1; the last it said:")
    assert "Traceback" not in done.stderr
