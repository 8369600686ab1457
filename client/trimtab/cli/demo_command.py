"""The command `trimtab demo` and its options; what it does stands in `demo`."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.demo import run_demo
from trimtab.cli.failures import EXIT_CODES, told
from trimtab.cli.files import Reading
from trimtab.cli.options import FILE, SLOTS
from trimtab.cli.pack import make_items, read_items
from trimtab.cli.printing import make_console
from trimtab.synthetic import generate_loads

_HELP = """Start a server, pack a DeepSeek-V3-sized load, fire a burst, rebalance after a drift, stop it.

The load is 58 layers of 256 experts, replicated to 288 slots, unless --loads names a file. Nothing is left running.

\b
Examples:
  trimtab demo
  trimtab demo --loads loads.json
"""


@click.command("demo", help=_HELP, epilog=EXIT_CODES)
@click.option("--loads", metavar="FILE", type=FILE, help="Real loads, as for `trimtab pack`.  [default: generated]")
@click.option("--packs", type=int, default=32, show_default=True, help="Packs per layer.")
@click.option("--replicas", type=SLOTS, default=288, show_default=True, help="Slots per layer.")
def demo_command(loads: Path | None, packs: int, replicas: int) -> None:
    """Read or make the loads, then the demo."""
    with told("the demo's server"):
        items = (
            read_items([loads], replicas, Reading(max_windows=1)) if loads else make_items(generate_loads(), replicas)
        )
    run_demo(make_console(), str(loads or "generated loads"), items, packs)
