"""The command `trimtab generate`: loads to try it all with."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.failures import EXIT_CODES, told
from trimtab.cli.files import make_loads
from trimtab.cli.options import FILE, json_option
from trimtab.cli.printing import print_json, told_output
from trimtab.formats import STANDARD, write_loads

_HELP = """Write loads that look like those of a real model.

Popularity is lognormal within a layer, and every layer has its own hot experts. With --windows the loads get a first
dimension, and --drift says how far popularity wanders from one window to the next (0 to 1).

\b
Examples:
  trimtab generate -o loads.npz
  trimtab generate -o loads.json --layers 4 --experts 64
  trimtab generate -o loads.npy --windows 8 --drift 0.1 --seed 7
"""


@click.command("generate", help=_HELP, epilog=EXIT_CODES)
@click.option(
    "-o", "--output", metavar="FILE", type=FILE, required=True, help="Where to: .npz, .npy, .json, .pt, or - for JSON."
)
@click.option("--layers", type=int, default=58, show_default=True, help="Layers.")
@click.option("--experts", type=int, default=256, show_default=True, help="Experts in a layer.")
@click.option("--windows", type=int, help="Samples in time.  [default: one, without that dimension]")
@click.option("--drift", type=float, default=0.0, show_default=True, help="How far popularity wanders, 0 to 1.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same loads.")
@json_option
def generate_command(
    *, output: Path, layers: int, experts: int, windows: int | None, drift: float, seed: int, as_json: bool
) -> None:
    """Make and write."""
    with told(str(output)):
        load = make_loads(layers, experts, windows, drift, seed)
        write_loads(output, load)
    if as_json:
        print_json({"out": str(output), "shape": list(load.shape), "seed": seed}, output)
        return
    shape = " x ".join(map(str, load.shape))
    click.echo(f"{told_output(output)}: {shape} loads, seed {seed}", err=output == STANDARD)
