"""`trimtab demo`: the whole of it, through a pipe, and all the ways in which it can end."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from trimtab.cli.demo_metrics import moved_rows, read_series
from trimtab.formats import write_loads
from trimtab.synthetic import generate_loads

COMMAND = (sys.executable, "-c", "from trimtab.cli import main; main()")


def spawn(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, through a pipe."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_demo_does_all_it_says(tmp_path: Path) -> None:
    """It starts a server, packs, bursts, shows what moved, and stops the server."""
    write_loads(tmp_path / "loads.npz", generate_loads(6, 32))
    ran = spawn("demo", "--loads", tmp_path / "loads.npz", "--packs", 4, "--replicas", 40)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    text = ran.stdout
    assert re.search(r"serving after \S+ s on 127\.0\.0\.1:\d+, metrics on http://127\.0\.0\.1:\d+/metrics", text)
    batches = re.findall(r"^(\d+) +(\d+) +#+ *$", text, re.MULTILINE)
    assert sum(int(size) * int(count) for size, count in batches) == 64
    assert max(int(size) for size, _ in batches) > 1
    packed = re.search(r'^grpc_server_handled_total\{grpc_code="OK",grpc_method="Pack"\} +(\d+) *$', text, re.MULTILINE)
    assert packed is not None
    assert int(packed[1]) == 1 + 16 + 64
    for line in ("it drained and ended with exit code 0", "The answer was the same bytes alone and in a batch."):
        assert line in text


@pytest.mark.parametrize(
    ("options", "environment", "exit_code", "message"),
    [
        (["--loads", "no.json"], {}, 2, "no.json: there is no such file"),
        (["--packs", "31"], {}, 2, "--packs: must divide num_items = 288, got 31"),
        ([], {"TRIMTAB_DEVICE": "cuda:99"}, 3, "the demo's server ended with exit code 1"),
    ],
)
def test_a_demo_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, options: list[str], environment: dict[str, str], exit_code: int, message: str
) -> None:
    """It fails with a reason, the server's last words included, and no traceback."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ran = spawn("demo", *options)
    assert ran.returncode == exit_code
    assert ran.stderr.startswith(f"trimtab: {message}")
    assert "Traceback" not in ran.stderr
    for value in environment.values():
        assert value in ran.stderr


@pytest.mark.parametrize(("name", "exit_code", "said"), [("SIGINT", 130, "\ntrimtab: stopped\n"), ("SIGTERM", 143, "")])
def test_a_demo_that_is_stopped_leaves_nothing_running(name: str, exit_code: int, said: str) -> None:
    """Ctrl-C and SIGTERM end the server too."""
    with subprocess.Popen([*COMMAND, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert any("serving after" in line for line in demo.stdout)
        (server,) = psutil.Process(demo.pid).children()
        demo.send_signal(getattr(signal, name))
        _, told = demo.communicate(timeout=60)
    assert (demo.returncode, told) == (exit_code, said)
    assert not server.is_running()


def test_moved_metrics_are_counts_and_means() -> None:
    """Of two pages: what changed of ours, histograms as count and mean, without buckets and others' metrics."""
    page = """\
# HELP trimtab_solve_seconds Time.
trimtab_solve_seconds_bucket{solver="torch",le="0.5"} %d.0
trimtab_solve_seconds_count{solver="torch"} %d.0
trimtab_solve_seconds_sum{solver="torch"} %s
trimtab_rejected_total{reason="full"} 3.0
trimtab_queue_rows %d.0
grpc_server_handled_total{grpc_code="OK",grpc_method="Pack",grpc_service="trimtab.v1.X"} %d.0
process_cpu_seconds_total %d.5
"""
    rows = moved_rows(read_series(page % (1, 1, 0.5, 0, 7, 1)), read_series(page % (4, 5, 3.5, 9, 9, 2)))
    assert rows == [
        ('trimtab_solve_seconds{solver="torch"}', "4", "0.75"),
        ('grpc_server_handled_total{grpc_code="OK",grpc_method="Pack"}', "2", ""),
    ]
