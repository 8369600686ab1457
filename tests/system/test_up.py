"""One command that brings up a server, Prometheus and a page, and takes them down again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.kept_venv import ROOT
from tests.system.tools import free_port, tool


def get(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
        text: str = response.read().decode()
    return text


def query(prometheus: str, expression: str) -> list[Any]:
    """Of an instant query; empty while Prometheus is not there yet."""
    try:
        result: list[Any] = json.loads(get(prometheus, f"/api/v1/query?query={expression}"))["data"]["result"]
    except (urllib.error.URLError, ConnectionError):
        return []
    return result


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
        end = time.monotonic() + 120
        while time.monotonic() < end and not query(prometheus, "up==1"):
            assert process.poll() is None, process.communicate()
            time.sleep(0.2)
        assert query(prometheus, "up==1"), "Prometheus does not scrape the server"
        assert json.loads(get(prometheus, "/api/v1/rules"))["data"]["groups"]
        assert "trimtab" in get(http, "/")
        while time.monotonic() < end and 'grpc_method="Rebalance"} 0' in get(http, "/metrics"):
            time.sleep(0.2)
        assert 'grpc_code="OK",grpc_method="Rebalance"} 0' not in get(http, "/metrics")
    finally:
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert f"page        http://{http}/" in said
    assert said.endswith("draining ...\nended\n")
    for address in (http, prometheus):
        with pytest.raises(urllib.error.URLError):
            get(address, "/")


def test_up_says_what_is_missing() -> None:
    """In one line that says what to do."""
    taken = free_port()
    command = [sys.executable, "deploy/up.py", f"--listen=127.0.0.1:{taken}", f"--http=127.0.0.1:{taken}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("up: ended with exit code 1; the last it said:")
    assert "Traceback" not in done.stderr
