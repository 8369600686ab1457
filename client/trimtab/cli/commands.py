"""The commands and their options; what they do stands in the modules beside this one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from trimtab.cli import pack as packing
from trimtab.cli.demo import run_demo
from trimtab.cli.failures import EXIT_CODES, OneLineGroup, told
from trimtab.cli.files import check_output, make_loads
from trimtab.cli.options import (
    FILE,
    SLOTS,
    effort_options,
    json_option,
    target_options,
    timeout_option,
)
from trimtab.cli.rebalance_command import rebalance_command
from trimtab.cli.replay_command import replay_command
from trimtab.cli.tables import make_console, show_description, show_pack
from trimtab.client import Client
from trimtab.formats import write_loads
from trimtab.synthetic import generate_loads
from trimtab.version import __version__

_CAPTION = """trimtab's commands: where experts go and what that gains, what a server is, loads to try it with, and a
demo of it all.
"""
_PACK = """Pack the experts of a load file evenly onto GPUs (or nodes).

FILE holds loads [layers, experts], or [windows, layers, experts], which are summed: .json with "logical_count",
.npy, .npz or .pt.

\b
Examples:
  trimtab pack loads.json --packs 32
  trimtab pack loads.json --packs 32 --replicas 288 --target local
  trimtab pack loads.json --packs 32 --restarts 64 --target-gap 0
  trimtab pack loads.npz --packs 32 --json | jq .balancedness_after
  trimtab pack loads.pt --packs 8 --target placement:50051 --ca ca.pem --token-file token -o packing.npz
"""
_GENERATE = """Write loads that look like those of a real model.

Popularity is lognormal within a layer, and every layer has its own hot experts. With --windows the loads get a first
dimension, and --drift says how far popularity wanders from one window to the next (0 to 1).

\b
Examples:
  trimtab generate -o loads.npz
  trimtab generate -o loads.json --layers 4 --experts 64
  trimtab generate -o loads.npy --windows 8 --drift 0.1 --seed 7
"""
_DESCRIBE = """Ask a server what it is: version, algorithm, solvers, limits.

\b
Examples:
  trimtab describe
  trimtab describe --target placement:50051 --json
  trimtab describe --target placement:50051 --ca ca.pem --token-file token
"""
_DEMO = """Start a server, pack a DeepSeek-V3-sized load, fire a burst, rebalance after a drift, stop it.

The load is 58 layers of 256 experts, replicated to 288 slots, unless --loads names a file. Nothing is left running.

\b
Examples:
  trimtab demo
  trimtab demo --loads loads.json
"""


@click.group(cls=OneLineGroup, invoke_without_command=True, help=_CAPTION, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="trimtab", message="%(prog)s %(version)s")
@click.pass_context
def trimtab(context: click.Context) -> None:
    """The group of all commands; alone it tells what there is."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@trimtab.command("pack", help=_PACK, epilog=EXIT_CODES)
@click.argument("file", type=FILE)
@click.option("--packs", type=int, required=True, help="Packs per layer; divides the number of items.")
@click.option("--replicas", type=SLOTS, help="Replicate the hottest experts to so many slots.")
@target_options
@effort_options
@timeout_option
@json_option
@click.option(
    "-o",
    "--output",
    metavar="OUT.npz",
    type=FILE,
    help="Write pack_index, rank_in_pack, weight and, with --replicas, physical_to_logical.",
)
def pack_command(
    *,
    file: Path,
    packs: int,
    replicas: int | None,
    target: str,
    secure: dict[str, Any],
    as_json: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Read, pack, write, show."""
    if output is not None:
        check_output("-o", output, ".npz", [file])
    with told(target):
        items = packing.read_items(file, replicas)
        with Client(target, **secure) as client:
            report = packing.run_pack(client, items, packs, **options)
    if output is not None:
        packing.save_packing(report, output)
    if as_json:
        click.echo(json.dumps({"file": str(file), **packing.as_json(report)}, allow_nan=False))
        return
    console = make_console()
    show_pack(console, str(file), report)
    if output is not None:
        console.print(f"written to {output}", soft_wrap=True)


@trimtab.command("generate", help=_GENERATE, epilog=EXIT_CODES)
@click.option("-o", "--output", metavar="FILE", type=FILE, required=True, help="Where to: .npz, .npy or .json.")
@click.option("--layers", type=int, default=58, show_default=True, help="Layers.")
@click.option("--experts", type=int, default=256, show_default=True, help="Experts in a layer.")
@click.option("--windows", type=int, help="Samples in time.  [default: one, without that dimension]")
@click.option("--drift", type=float, default=0.0, show_default=True, help="How far popularity wanders, 0 to 1.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, the same loads.")
def generate_command(*, output: Path, layers: int, experts: int, windows: int | None, drift: float, seed: int) -> None:
    """Make and write."""
    with told(str(output)):
        load = make_loads(layers, experts, windows, drift, seed)
        write_loads(output, load)
    click.echo(f"{output}: {' x '.join(map(str, load.shape))} loads, seed {seed}")


@trimtab.command("describe", help=_DESCRIBE, epilog=EXIT_CODES)
@target_options
@timeout_option
@json_option
def describe_command(*, target: str, secure: dict[str, Any], timeout: float, as_json: bool) -> None:
    """Ask and show."""
    with told(target), Client(target, **secure) as client:
        description = client.describe(timeout=timeout)
    if as_json:
        click.echo(json.dumps(asdict(description)))
        return
    show_description(make_console(), target, description)


@trimtab.command("demo", help=_DEMO, epilog=EXIT_CODES)
@click.option("--loads", metavar="FILE", type=FILE, help="Real loads, as for `trimtab pack`.  [default: generated]")
@click.option("--packs", type=int, default=32, show_default=True, help="Packs per layer.")
@click.option("--replicas", type=SLOTS, default=288, show_default=True, help="Slots per layer.")
def demo_command(loads: Path | None, packs: int, replicas: int) -> None:
    """Read or make the loads, then the demo."""
    with told("the demo's server"):
        items = packing.read_items(loads, replicas) if loads else packing.make_items(generate_loads(), replicas)
    run_demo(make_console(), str(loads or "generated loads"), items, packs)


trimtab.add_command(rebalance_command)
trimtab.add_command(replay_command)
