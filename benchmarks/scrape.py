"""What looking at a server costs: its metrics and its page, after calls of DeepSeek-V3's size.

Run: python -m benchmarks.scrape [--rounds N]

Both are asked for over HTTP, in turn, of one real server that is not working meanwhile.
"""

from __future__ import annotations

import argparse
import urllib.request

import numpy as np

from benchmarks.measuring import Spread, machine, print_table, side_by_side, verdict
from trimtab import Client
from trimtab.cli.server_process import running_server

CALLS = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="times that each is asked for (default: 50)")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print(machine(), flush=True)
    with running_server() as server, Client(server.listen) as client:
        held = client.rebalance(rng.lognormal(size=(58, 256)), num_gpus=32, num_replicas=288).physical_to_logical
        for _ in range(CALLS):
            client.pack(rng.lognormal(size=(58, 288)), num_packs=32)
            client.rebalance(rng.lognormal(size=(58, 256)), num_gpus=32, num_replicas=288, previous=held)
        series = sum(not line.startswith("#") for line in server.scrape().splitlines())

        def page() -> int:
            with urllib.request.urlopen(f"http://{server.metrics}/", timeout=10) as answer:
                return len(answer.read())

        size = page()
        scraped, shown = (Spread.of(each).scaled(1e3) for each in side_by_side([server.scrape, page], arguments.rounds))
    print_table(
        "Looking at a server",
        ("what", "measured", "wanted", "met"),
        [
            verdict("a scrape, ms", scraped.median, 10, at_most=True),
            verdict("series", series, 199, at_most=True),
            ("a scrape, ms, with its spread", f"{scraped:.2f}", "", ""),
            ("the page, ms", f"{shown:.2f}", "", ""),
            ("the page, kB", f"{size / 1e3:.1f}", "", ""),
        ],
    )


if __name__ == "__main__":
    main()
