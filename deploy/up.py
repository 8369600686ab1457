"""A server, a Prometheus with the rules and alerts, and a page to look at, on one machine; until Ctrl-C.

Run: python deploy/up.py [--load] [-- FLAGS OF trimtab-server]
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

import trimtab
from trimtab.cli.server_process import ServerProcessError, end, running_server

PROMETHEUS = Path(__file__).parent / "prometheus"
DATA = Path(__file__).parents[1] / ".cache" / "up"
_SECONDS_TO_START = 30.0
_SECONDS_BETWEEN_CALLS = 1.0
_EXAMPLES = """\
examples:
  python deploy/up.py
      a server on 127.0.0.1:50051, its page on http://127.0.0.1:9095/, Prometheus on http://127.0.0.1:9090/
  python deploy/up.py --load
      and a controller that lets its loads drift and rebalances every second, so that there is something to see
  python deploy/up.py -- --solver-threads 1
      the server with other settings
"""


class NotUpError(Exception):
    """Something does not come up; the message says what, and what to do."""


def main() -> None:
    """Bring it up, say where, take it down."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--load", action="store_true", help="also be a controller that calls it every second")
    parser.add_argument("--listen", default="127.0.0.1:50051", help="of the server (default: %(default)s)")
    parser.add_argument("--http", default="127.0.0.1:9095", help="of its page and metrics (default: %(default)s)")
    parser.add_argument("--prometheus", default="127.0.0.1:9090", help="of Prometheus (default: %(default)s)")
    parser.add_argument("flags", nargs="*", help="of trimtab-server, after --")
    given = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        _serve(given, ended)
    except (NotUpError, ServerProcessError) as error:
        sys.exit(f"up: {error}")


def _serve(given: argparse.Namespace, ended: threading.Event) -> None:
    print("starting the server ...", flush=True)
    addresses = (f"--listen={given.listen}", f"--metrics-listen={given.http}")
    with running_server(*addresses, *given.flags) as server, _prometheus(server.metrics, given.prometheus) as watching:
        print(f"gRPC        {server.listen}   solver {server.serving['solver']} on {server.serving['device']}")
        print(f"page        http://{server.metrics}/")
        print(f"Prometheus  http://{given.prometheus}/   alerts: http://{given.prometheus}{_alerts(given.prometheus)}")
        print("dashboards  deploy/grafana/*.json, to import where there is a Grafana")
        print("Ctrl-C ends it", flush=True)
        calls = _controller(server.listen) if given.load else iter(int, 1)
        while not ended.wait(_SECONDS_BETWEEN_CALLS):
            for name, process in (("server", server.process), ("Prometheus", watching)):
                if process.poll() is not None:
                    raise NotUpError(f"the {name} ended by itself, with exit code {process.returncode}")
            next(calls)
        print("draining ...", flush=True)
    print("ended", flush=True)


def _controller(target: str) -> Iterator[int]:
    """Calls of a cluster whose traffic drifts around its mean: each step rebalances what is in force within a budget.

    And packs the slots that came of it anew, as whoever wants to know what a fresh start would give.
    """
    rng = np.random.default_rng()
    drift = rng.normal(size=(58, 256))
    with trimtab.Client(target) as client:
        held = client.rebalance(np.exp(drift), num_gpus=32, num_replicas=288).physical_to_logical
        while True:
            drift = 0.98 * drift + 0.2 * rng.normal(size=drift.shape)
            load = np.exp(drift)
            placement = client.rebalance(load, num_gpus=32, num_replicas=288, previous=held, max_moves=1200)
            held = placement.physical_to_logical
            client.pack(np.take_along_axis(load / placement.logical_count, held, axis=1), num_packs=32)
            yield int(placement.moves.sum())


@contextlib.contextmanager
def _prometheus(scraped: str, listen: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Prometheus with this project's settings and rules; what it stores is in .cache/up."""
    command = shutil.which("prometheus")
    if command is None:
        raise NotUpError("prometheus is not here: make tools")
    DATA.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [scraped]
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    (DATA / "prometheus.yaml").write_text(yaml.safe_dump(config))
    flags = (f"--config.file={DATA}/prometheus.yaml", f"--storage.tsdb.path={DATA}/data")
    with (DATA / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # found above
            [command, *flags, f"--web.listen-address={listen}", "--enable-feature=exemplar-storage"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process, listen)
        yield process
    finally:
        end(process)


def _alerts(listen: str) -> str:
    """Where this Prometheus shows its alerts: Debian's has the old pages alone."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{listen}/alerts", timeout=5):
        return "/alerts"
    return "/classic/alerts"


def _wait_until_ready(process: subprocess.Popen[bytes], listen: str) -> None:
    latest = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < latest and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{listen}/-/ready", timeout=1):
            return
        time.sleep(0.1)
    raise NotUpError(f"Prometheus does not come up on {listen}; its log: {DATA / 'prometheus.log'}")


if __name__ == "__main__":
    main()
