"""The command `trimtab replay` and its options; what it does stands in `replay`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from trimtab.cli import replay
from trimtab.cli.cost_model import RULE_OF_IMBALANCE, RULE_OF_MOVES, CostModel
from trimtab.cli.failures import EXIT_CODES, InputFailure, told
from trimtab.cli.files import Windows, check_output, make_loads, read_windows, told_files
from trimtab.cli.options import (
    FILE,
    above_zero,
    cluster_options,
    in_order,
    json_option,
    target_options,
    timeout_option,
)
from trimtab.cli.replay_plot import draw_replay, find_matplotlib
from trimtab.cli.replay_tables import show_replay
from trimtab.cli.simulation import Schedule
from trimtab.cli.tables import make_console
from trimtab.client import Client

_WINDOWS, _DRIFT, _SEED = 24, 0.05, 0
_LAYERS, _EXPERTS = 58, 256
_ALL = "all"
_HELP = f"""Step through windows of load, placing on the past and judging on the next window.

LOADS are files as for `trimtab rebalance`, in the order of time; without any, loads that drift are generated. All
policies start from one placement, made from the first --history windows. Then, every --interval windows, "fresh" places
from nothing, "budgeted" rebalances what is in force within --max-moves, and "none" leaves it alone. Each window is
judged with the placement in force, which was never made from it.

What that costs is estimated so: {RULE_OF_IMBALANCE}; {RULE_OF_MOVES}.

\b
Examples:
  trimtab replay --gpus 32 --replicas 288
  trimtab replay --gpus 32 --replicas 288 --windows 48 --drift 0.1 --interval 4 --plot replay.png
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
    files: tuple[Path, ...], windows: int | None, drift: float | None, seed: int | None
) -> tuple[str, Windows]:
    """The windows of the files, or generated ones, and what to call them."""
    if not files:
        windows, seed = (default if value is None else value for value, default in ((windows, _WINDOWS), (seed, _SEED)))
        drift = _DRIFT if drift is None else drift
        return f"generated loads, drift {drift:g}, seed {seed}", make_loads(_LAYERS, _EXPERTS, windows, drift, seed)
    for name, value in (("windows", windows), ("drift", drift), ("seed", seed)):
        if value is not None:
            raise InputFailure(f"--{name} is for generated loads; leave it out, or the files")
    return told_files(files), read_windows(files)


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on standard error where that is a terminal, gone when it is done; what to call for a step."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("replaying", total=total)
        yield lambda: bar.advance(task)


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
@_generator_options
@_model_options
@target_options
@timeout_option
@json_option
@click.option("--plot", metavar="FILE.png", type=FILE, help="Draw balancedness and moves over time.")
def replay_command(
    *,
    files: tuple[Path, ...],
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
    plot: Path | None,
    **options: Any,
) -> None:
    """Read or make the loads, replay, draw, show."""
    if plot is not None:
        check_output("--plot", plot, ".png", files)
        find_matplotlib()
    chosen = [policy for policy in replay.POLICIES if _ALL in policies or policy in policies]
    with told(target):
        name, load = _make_windows(files, windows, drift, seed)
        plan = replay.Plan(
            chosen,
            Schedule(history, interval),
            replay.default_budget(load, options["num_replicas"]) if max_moves is None else max_moves,
            min_gain,
            CostModel(window_seconds, moe_share, expert_mib, bandwidth_gbps),
        )
        replay.check_plan(plan, load)
        steps = len(chosen) * (len(load) - history)
        with Client(target, **secure) as client, _progress(steps, quiet=as_json) as on_window:
            report = replay.run_replay(client, load, plan, on_window, **options)
    if plot is not None:
        draw_replay(plot, name, report)
    if as_json:
        click.echo(json.dumps({"loads": name, **replay.as_json(report)}, allow_nan=False))
        return
    console = make_console()
    show_replay(console, name, report)
    if plot is not None:
        console.print(f"drawn to {plot}", soft_wrap=True)
