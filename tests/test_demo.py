"""`trimtab demo`: the whole of it, through a pipe, and all the ways in which it can end."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from trimtab import Client
from trimtab.cli.demo_drift import drift_load, slots_of_packing
from trimtab.cli.demo_metrics import moved_rows, read_series
from trimtab.cli.pack import make_items, run_pack
from trimtab.formats import write_loads
from trimtab.replication import count_replicas
from trimtab.synthetic import generate_loads

COMMAND = (sys.executable, "-c", "from trimtab.cli import main; main()")


def spawn(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, through a pipe."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_demo_does_all_it_says(tmp_path: Path) -> None:
    """It starts a server, packs, bursts, rebalances, shows what moved, and stops the server."""
    write_loads(tmp_path / "loads.npz", generate_loads(6, 32))
    ran = spawn("demo", "--loads", tmp_path / "loads.npz", "--packs", 4, "--replicas", 40)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    text = ran.stdout
    assert re.search(r"serving after \S+ s on 127\.0\.0\.1:\d+, metrics on http://127\.0\.0\.1:\d+/metrics", text)
    batches = re.findall(r"^(\d+) +(\d+) +#+ *$", text, re.MULTILINE)
    assert sum(int(size) * int(count) for size, count in batches) == 64
    assert max(int(size) for size, _ in batches) > 1
    packed = re.search(r'^grpc_server_handled_total\{code="OK",method="Pack"\} +(\d+) *$', text, re.MULTILINE)
    assert packed is not None
    assert int(packed[1]) == 1 + 16 + 64
    assert re.search(r'^grpc_server_handled_total\{code="OK",method="Rebalance"\} +2 *$', text, re.MULTILINE)
    drifted = text.partition("After the drift")[2].partition("5. ")[0]
    rows = re.findall(r"^(\w[\w ]+?) +(0\.\d+) +([\d,]+)$", drifted, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["the placement in force", "rebalanced", "placed from nothing"]
    (before, after, _), (none, moves, from_nothing) = zip(*((float(b), int(m)) for _, b, m in rows), strict=True)
    assert before < after
    assert none < moves <= 48 < from_nothing  # a fifth of 6 x 40 slots
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == list("123456")
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


@pytest.fixture
def listening() -> Iterator[None]:
    """Ctrl-C means what it means on a terminal: a shell has jobs in the background, and what they start, ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
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


def test_a_packing_is_a_placement() -> None:
    """The slots of a GPU hold the experts that were packed there, by descending load; without replicas too."""
    with Client("local") as client:
        for num_replicas in (40, None):
            items = make_items(generate_loads(3, 32), num_replicas)
            report = run_pack(client, items, 4)
            slots = slots_of_packing(report)
            share = items.load / count_replicas(slots, 32)
            on_gpu = np.take_along_axis(share, slots, axis=1).reshape(3, 4, -1)
            np.testing.assert_allclose(on_gpu.sum(axis=2).max(axis=1), report.packing.max_load)
            assert (np.diff(on_gpu, axis=2) <= 0).all()


def test_loads_drift_as_far_as_asked() -> None:
    """Popularity correlates by what is left of it, keeps its spread, and none stays none."""
    load = generate_loads(20, 256).astype(float)
    load[3] = 0
    load[5, :100] = 0
    drifted = drift_load(load, 0.3)
    assert ((drifted > 0) == (load > 0)).all()
    before, after = (np.log(loads[6:]) for loads in (load, drifted))
    found = [np.corrcoef(*pair)[0, 1] for pair in zip(before, after, strict=True)]
    assert np.mean(found) == pytest.approx(0.7, abs=0.03)
    assert (after.std(axis=1) / before.std(axis=1)).mean() == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(drift_load(load, 0.0), load)
    np.testing.assert_array_equal(drift_load(load, 0.3), drifted)


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
        ('grpc_server_handled_total{code="OK",method="Pack"}', "2", ""),
    ]
