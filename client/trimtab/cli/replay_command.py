"""The command `trimtab replay` and its options; what it does stands in `replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trimtab.cli import replay
from trimtab.cli.cost_model import RULE_OF_IMBALANCE, RULE_OF_MOVES, CostModel
from trimtab.cli.failures import EXIT_CODES, InputFailure, told
from trimtab.cli.files import Reading, cluster_of, make_loads, told_files
from trimtab.cli.options import (
    FILE,
    above_zero,
    cluster_options,
    in_order,
    json_option,
    reading_options,
    target_options,
    timeout_option,
)
from trimtab.cli.printing import make_console, print_json, progress
from trimtab.cli.replay_tables import show_replay
from trimtab.cli.report.asking import Drawings, drawing_options
from trimtab.cli.report.replay_report import draw_replay, write_replay_report
from trimtab.cli.simulation import Schedule
from trimtab.client import Client
from trimtab.formats import LoadWindows
from trimtab.formats.stored import all_layers

_WINDOWS, _DRIFT, _SEED = 24, 0.05, 0
_LAYERS, _EXPERTS = 58, 256
_GPUS, _REPLICAS = 32, 288
"""Of generated loads, where nothing else is said."""
_MAX_WINDOWS = 256
_ALL = "all"
_HELP = f"""Step through windows of load, placing on the past and judging on the next window.

LOADS are files as for `trimtab rebalance`, in the order of time; without any, loads that drift are generated, for 32
GPUs and 288 slots. All policies start from one placement, made from the first --history windows. Then, every --interval
windows, "fresh" places from nothing, "budgeted" rebalances what is in force within --max-moves, and "none" leaves it
alone. Each window is judged with the placement in force, which was never made from it.

What that costs is estimated so: {RULE_OF_IMBALANCE}; {RULE_OF_MOVES}.

\b
Examples:
  trimtab replay
  trimtab replay --gpus 64 --replicas 320 --windows 48 --drift 0.1 --interval 4 --plot replay.png
  trimtab replay week.npz --gpus 32 --replicas 288 --history 3 --max-moves 900
  trimtab replay monday.npz tuesday.npz --gpus 32 --replicas 288 --policy none --policy budgeted
  trimtab replay week.npz --gpus 32 --replicas 288 --target local --json | jq .summary
"""
_DEFAULT = CostModel()

_generator_options = in_order(
    click.option("--windows", type=int, help=f"Windows to generate.  [default: {_WINDOWS}]"),
    click.option("--drift", type=float, help=f"How far popularity wanders in a window, 0 to 1.  [default: {_DRIFT:g}]"),
    click.option("--seed", type=int, help=f"The same seed, the same loads.  [default: {_SEED}]"),
)
_CONSTANTS = (
    ("window_seconds", 1e6, "How long a window lasts."),
    ("moe_share", 1, "Share of it that the MoE layers take."),
    ("expert_mib", 1e6, "Size of a copy of an expert; DeepSeek-V3's in FP8 by default."),
    ("bandwidth_gbps", 1e6, "Gbit/s that a GPU receives."),
)
_model_options = in_order(
    *(
        click.option(
            f"--{name.replace('_', '-')}",
            type=float,
            default=getattr(_DEFAULT, name),
            show_default=True,
            callback=above_zero(most),
            help=text,
        )
        for name, most, text in _CONSTANTS
    )
)


def _make_windows(
    files: tuple[Path, ...], reading: Reading, windows: int | None, drift: float | None, seed: int | None
) -> tuple[str, LoadWindows]:
    """The windows of the files, or generated ones, and what to call them."""
    if not files:
        windows, seed = (default if value is None else value for value, default in ((windows, _WINDOWS), (seed, _SEED)))
        drift = _DRIFT if drift is None else drift
        load = make_loads(_LAYERS, _EXPERTS, windows, drift, seed)
        return f"generated loads, drift {drift:g}, seed {seed}", LoadWindows(load, all_layers(load), len(load))
    for name, value in (("windows", windows), ("drift", drift), ("seed", seed)):
        if value is not None:
            raise InputFailure(f"--{name} is for generated loads; leave it out, or the files")
    loads = reading.loads(files)
    return told_files(files, loads), loads


@click.command("replay", help=_HELP, epilog=EXIT_CODES)
@click.argument("files", metavar="[LOADS]...", type=FILE, nargs=-1)
@cluster_options
@click.option(
    "--policy",
    "policies",
    type=click.Choice([*replay.POLICIES, _ALL]),
    multiple=True,
    default=[_ALL],
    show_default=True,
    help="What to compare; can be given several times.",
)
@click.option(
    "--interval", type=click.IntRange(1), default=1, show_default=True, help="Windows from a rebalance to the next."
)
@click.option(
    "--history", type=click.IntRange(1), default=1, show_default=True, help="Windows that a placement is made from."
)
@click.option(
    "--max-moves",
    type=click.IntRange(0),
    help="Most copies to move in a rebalance of `budgeted`, over all layers.  [default: a tenth of the slots]",
)
@click.option("--min-gain", type=float, help="A layer that would gain less balancedness keeps its placement.")
@reading_options(_MAX_WINDOWS)
@_generator_options
@_model_options
@target_options
@timeout_option
@json_option
@drawing_options("Draw balancedness and moves over time.")
def replay_command(
    *,
    files: tuple[Path, ...],
    reading: Reading,
    num_gpus: int | None,
    num_replicas: int | None,
    policies: tuple[str, ...],
    interval: int,
    history: int,
    max_moves: int | None,
    min_gain: float | None,
    windows: int | None,
    drift: float | None,
    seed: int | None,
    window_seconds: float,
    moe_share: float,
    expert_mib: float,
    bandwidth_gbps: float,
    target: str,
    secure: dict[str, Any],
    as_json: bool,
    drawings: Drawings,
    **options: Any,
) -> None:
    """Read or make the loads, replay, draw, show."""
    drawings.check(files)
    chosen = [policy for policy in replay.POLICIES if _ALL in policies or policy in policies]
    with told(target):
        name, loads = _make_windows(files, reading, windows, drift, seed)
        if not files:
            num_gpus, num_replicas = num_gpus or _GPUS, num_replicas or _REPLICAS
        cluster = cluster_of(num_gpus, num_replicas, loads.placement)
        load = loads.load
        plan = replay.Plan(
            chosen,
            Schedule(history, interval),
            replay.default_budget(load, cluster.num_replicas) if max_moves is None else max_moves,
            min_gain,
            CostModel(window_seconds, moe_share, expert_mib, bandwidth_gbps),
        )
        replay.check_plan(plan, load)
        steps = len(chosen) * (len(load) - history)
        with Client(target, **secure) as client, progress("replaying", steps, quiet=as_json) as on_window:
            report = replay.run_replay(client, load, plan, on_window, **cluster._asdict(), **options)
        if drawings.picture is not None:
            draw_replay(drawings.picture, name, report)
        if drawings.page is not None:
            write_replay_report(drawings.page, name, report)
    if as_json:
        print_json({"loads": name, **replay.as_json(report)})
        return
    console = make_console()
    show_replay(console, name, report)
    drawings.show(console)
