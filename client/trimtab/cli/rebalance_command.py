"""The command `trimtab rebalance` and its options; what it does stands in `rebalance`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trimtab.cli import rebalance
from trimtab.cli.cost_model import CostModel
from trimtab.cli.failures import EXIT_CODES, InputFailure, told
from trimtab.cli.files import Reading, check_placement_output, cluster_of, told_files
from trimtab.cli.options import (
    FILE,
    above_zero,
    cluster_options,
    effort_options,
    json_option,
    output_format_option,
    read_gpus,
    read_speeds,
    reading_options,
    target_options,
    timeout_option,
)
from trimtab.cli.printing import make_console, print_json, show_written, working
from trimtab.cli.rebalance_tables import show_rebalance
from trimtab.cli.report.asking import Drawings, drawing_options
from trimtab.cli.report.rebalance_report import draw_rebalance, write_rebalance_report
from trimtab.client import Client
from trimtab.formats import LoadWindows, StoredPlacement, read_placement, write_placement

_MAX_WINDOWS = 32
_HELP = """Place experts on GPUs, from nothing or from the placement in force with few moves.

LOADS are files as the engines write them, folders of them, or arrays [layers, experts] or [windows, layers, experts]
(`trimtab convert --help` lists all); `-` is standard input. Each adds its windows, the latest last; all of them count
alike. Balancedness is the mean over the max load of the GPUs, moves are copies of experts that must cross the network.

Placements are files of any of the engines too. -o writes them for SGLang (.json, .pt: --init-expert-location), for
TensorRT-LLM (.yaml), for vllm-ascend (expert_map.json) or as arrays; --output-format says otherwise. `-o -` is standard
output.

\b
Examples:
  trimtab rebalance loads.json --gpus 32 --replicas 288 -o placement.json
  trimtab rebalance new.json --gpus 32 --previous placement.json --max-moves 1800 -o placement.json
  trimtab rebalance stats.jsonl --max-moves 900 --min-gain 0.01 -o next.json
  trimtab rebalance expert_statistic/ --gpus 32 --replicas 288 -o moe_load_balancer.yaml
  trimtab rebalance dumps/ --layers 3-60 --gpus 32 --replicas 288 -o expert_map.json
  trimtab rebalance monday.npz tuesday.npz --gpus 32 --previous placement.json --max-moves 0
  trimtab rebalance new.json --gpus 32 --previous placement.json --inactive-gpus 3,7
  trimtab rebalance new.json --gpus 32 --previous placement.json --max-moves 1800 --report gain.html --plot gain.png
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
@click.option(
    "--previous",
    metavar="FILE",
    type=FILE,
    help="The placement in force.  [default: the one in LOADS, where they tell it, else none]",
)
@click.option("--from-nothing", is_flag=True, help="Place from nothing, though LOADS tell the placement in force.")
@reading_options(_MAX_WINDOWS)
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
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write the placement, whole or not at all.")
@output_format_option
@drawing_options("Draw the load of each GPU by layer, before and after.")
@click.option(
    "--expert-mib",
    type=float,
    default=CostModel.expert_mib,
    show_default=True,
    callback=above_zero(1e6),
    help="Size of a copy of an expert, for --report.",
)
def rebalance_command(
    *,
    files: tuple[Path, ...],
    reading: Reading,
    num_gpus: int | None,
    num_replicas: int | None,
    previous: Path | None,
    from_nothing: bool,
    gpu_speed: dict[int, float],
    target: str,
    secure: dict[str, Any],
    as_json: bool,
    output: Path | None,
    output_format: str | None,
    drawings: Drawings,
    expert_mib: float,
    **options: Any,
) -> None:
    """Read, rebalance, write, show."""
    if output is not None:
        check_placement_output(output, output_format, files)
    drawings.check(files)
    with told(target):
        with working("reading loads", quiet=as_json):
            loads = reading.loads(files)
        in_force, loads = _in_force(reading, loads, previous, from_nothing=from_nothing)
        cluster = cluster_of(num_gpus, num_replicas, in_force)
        options |= {"num_replicas": cluster.num_replicas, "gpu_speed": _speed_of_each(gpu_speed, cluster.num_gpus)}
        with Client(target, **secure) as client, working("placing experts", quiet=as_json):
            report = rebalance.run_rebalance(client, loads, cluster.num_gpus, in_force, **options)
        if output is not None:
            write_placement(output, report.stored, format_name=output_format)
        name = told_files(files, loads)
        asked = {key: options[key] for key in ("inactive_gpus", "gpu_speed")}
        asked |= {"num_gpus": report.num_gpus, "layers": report.layers, "previous": report.previous}
        if drawings.picture is not None:
            draw_rebalance(drawings.picture, name, report.windows, report.placement, **asked)
        if drawings.page is not None:
            write_rebalance_report(
                drawings.page, name, report.windows, report.placement, expert_mib=expert_mib, **asked
            )
    if as_json:
        print_json({"files": [str(file) for file in files], **rebalance.as_json(report)}, output)
        return
    console = make_console(output)
    show_rebalance(console, name, report)
    show_written(console, output, "; -1 stands for an empty slot" if report.has_empty else "")
    drawings.show(console)


def _in_force(
    reading: Reading, loads: LoadWindows, previous: Path | None, *, from_nothing: bool
) -> tuple[StoredPlacement | None, LoadWindows]:
    """The placement in force, if any, and the loads with a row for each of its layers."""
    if previous is not None and from_nothing:
        raise InputFailure("--from-nothing: leave it out, or --previous")
    placement = loads.placement if previous is None else read_placement(previous)
    if placement is None or from_nothing:
        return None, loads
    return reading.previous(placement, loads)
