"""The command `trimtab rebalance` and its options; what it does stands in `rebalance`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from trimtab.cli import rebalance
from trimtab.cli.failures import EXIT_CODES, InputFailure, told
from trimtab.cli.files import check_output, read_windows, told_files
from trimtab.cli.options import (
    FILE,
    cluster_options,
    effort_options,
    json_option,
    read_gpus,
    read_speeds,
    target_options,
    timeout_option,
)
from trimtab.cli.rebalance_tables import show_rebalance
from trimtab.cli.tables import make_console
from trimtab.client import Client
from trimtab.formats import read_placement, write_placement

_HELP = """Place experts on GPUs, from nothing or from the placement in force with few moves.

LOADS are files of loads [layers, experts] or [windows, layers, experts]: .json with "logical_count", .npy, .npz or .pt.
Each adds its windows, the latest last; all of them count alike. Balancedness is the mean over the max load
of the GPUs, moves are copies of experts that must cross the network.

Placements are files with "physical_to_logical_map" [layers][slots], as SGLang's --init-expert-location takes them, with
a row for every layer of the loads. --previous also reads .npy and .npz.

\b
Examples:
  trimtab rebalance loads.json --gpus 32 --replicas 288 -o placement.json
  trimtab rebalance new.json --gpus 32 --replicas 288 --previous placement.json --max-moves 1800 -o placement.json
  trimtab rebalance monday.npz tuesday.npz --gpus 32 --replicas 288 --previous placement.json --max-moves 0
  trimtab rebalance new.json --gpus 32 --replicas 288 --previous placement.json --inactive-gpus 3,7
  trimtab rebalance new.json --gpus 32 --replicas 288 --target local --json | jq .balancedness_after
"""


def _speed_of_each(speeds: dict[int, float], num_gpus: int) -> list[float] | None:
    """[num_gpus], 1 where nothing is said; None where nothing is said of any."""
    for gpu in speeds:
        if not 0 <= gpu < num_gpus:
            raise InputFailure(f"--gpu-speed: there is no GPU {gpu}, they go from 0 to {num_gpus - 1}")
    return [speeds.get(gpu, 1.0) for gpu in range(num_gpus)] if speeds else None


@click.command("rebalance", help=_HELP, epilog=EXIT_CODES)
@click.argument("files", metavar="LOADS...", type=FILE, nargs=-1, required=True)
@cluster_options
@click.option("--previous", metavar="FILE", type=FILE, help="The placement in force.  [default: none, from nothing]")
@click.option(
    "--max-moves",
    type=click.IntRange(0),
    help="Most copies to move, over all layers; 0 only evaluates.  [default: as many as it takes]",
)
@click.option("--min-gain", type=float, help="A layer that would gain less balancedness keeps its placement.")
@click.option(
    "--inactive-gpus",
    metavar="GPU,...",
    callback=read_gpus,
    help="GPUs that are dead or leaving; their experts come back on the others.",
)
@click.option(
    "--gpu-speed",
    metavar="GPU=SPEED,...",
    callback=read_speeds,
    help="Speeds that are not 1: a GPU that is half as fast, 0.5, gets half the load.",
)
@click.option("--allow-duplicates", is_flag=True, help="Let a GPU hold an expert twice.")
@effort_options
@target_options
@timeout_option
@json_option
@click.option("-o", "--output", metavar="FILE.json", type=FILE, help="Write the placement, whole or not at all.")
def rebalance_command(
    *,
    files: tuple[Path, ...],
    num_gpus: int,
    previous: Path | None,
    gpu_speed: dict[int, float],
    target: str,
    secure: dict[str, Any],
    as_json: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Read, rebalance, write, show."""
    if output is not None:
        check_output("-o", output, ".json", files)
    options |= {"num_gpus": num_gpus, "gpu_speed": _speed_of_each(gpu_speed, num_gpus)}
    with told(target):
        windows = read_windows(files)
        options["previous"] = None if previous is None else read_placement(previous)
        with Client(target, **secure) as client:
            report = rebalance.run_rebalance(client, windows, **options)
        if output is not None:
            write_placement(output, report.placement.physical_to_logical)
    if as_json:
        click.echo(json.dumps({"files": [str(file) for file in files], **rebalance.as_json(report)}, allow_nan=False))
        return
    console = make_console()
    show_rebalance(console, told_files(files), report)
    if output is not None:
        empty = "; -1 stands for an empty slot" if report.has_empty else ""
        console.print(f"written to {output}{empty}", soft_wrap=True)
