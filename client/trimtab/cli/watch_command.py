"""The command `trimtab watch` and its options; what it does stands in the package `watch`."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from trimtab.cli.cost_model import CostModel
from trimtab.cli.failures import InputFailure, told
from trimtab.cli.files import Reading, check_place, check_placement_output
from trimtab.cli.options import (
    FILE,
    above_zero,
    cluster_options,
    in_order,
    output_format_option,
    reading_options,
    target_options,
    timeout_option,
)
from trimtab.formats import STANDARD, read_placement
from trimtab.watch.choice import SECONDS_OF_ENDPOINT, open_source
from trimtab.watch.controller import Controller, Timing
from trimtab.watch.decision import RULE, Worth
from trimtab.watch.events import Events
from trimtab.watch.history import History
from trimtab.watch.journal import Journal, Records, replay
from trimtab.watch.keeper import Keeper
from trimtab.watch.metrics import Metrics
from trimtab.watch.metrics_endpoint import MetricsEndpoint
from trimtab.watch.output import DryOutput, Output
from trimtab.watch.service import Service
from trimtab.watch.state import State
from trimtab.watch.stopping import Stop

_HISTORY, _MOST_HISTORY = 4, 256
_INTERVAL, _PAYBACK = 10.0, 600.0
_MOST_SECONDS = 86_400.0
_LEAST_SECONDS_A_ROUND = 60.0
_COLLECT_AFTER = 10_000
"""Objects made: the command's own default suits those that end soon."""
_EXIT_CODES = (
    "Exit codes: 0 ended by SIGTERM, or done with --once; 2 wrong usage or bad input; 3 with --once: the server is not "
    "there, or it refused; 130 ended by SIGINT."
)
_HELP = f"""Keep a placement in step with the loads: read them as they come, rebalance where that pays.

LOADS is one of three things. A folder that dumps come into: a file is read when its size and time of change have stood
still from one look to the next, and again when they have changed; what begins with a dot, and folders in it, are left
alone. A file that grows by lines, as vLLM's load statistics. Or a URL, http or https, whose body is read when it has
changed. What is new in a file, among lines, or in a body makes one window, unless --max-windows says more.

The last --history windows count. With new ones, the service is asked for a rebalance of the placement in force within
--max-moves, and the rule is: {RULE}. In force is what the loads say they were counted under, where they tell, else what
is in the output, else --previous. Where there is none, the first placement is made from nothing.

A journal beside the output remembers all that was read, decided and written, so that it can be ended at any moment,
by force too, and goes on when it is started again. A service that is away is asked again, after a pause that grows to a
minute; the placement stays meanwhile.

\b
Examples:
  trimtab watch dumps/ --gpus 32 --replicas 288 -o placement.json
  trimtab watch stats.jsonl --max-moves 900 --cooldown 1800 -o expert_map.json --json
  trimtab watch https://router:8000/expert-load --gpus 32 --replicas 288 -o placement.json --interval 60
  trimtab watch dumps/ --gpus 32 --replicas 288 -o placement.json --metrics-listen 127.0.0.1:9096
  trimtab watch dumps/ --gpus 32 -o placement.json --dry-run --once
"""
_DEFAULT = CostModel()


def _seconds(
    name: str, default: float | None, text: str, *, least_is_zero: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option of seconds."""

    def check(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
        if value is None or (least_is_zero and value == 0):
            return value
        return above_zero(_MOST_SECONDS)(context, parameter, value)

    return click.option(
        name, metavar="SECONDS", type=float, default=default, show_default=True, callback=check, help=text
    )


_rule_options = in_order(
    _seconds("--payback", _PAYBACK, "How long a gain has to last to pay for its moves."),
    *(
        click.option(
            f"--{name.replace('_', '-')}",
            type=float,
            default=getattr(_DEFAULT, name),
            show_default=True,
            callback=above_zero(most),
            help=text,
        )
        for name, most, text in (
            ("moe_share", 1, "Share of the time that the MoE layers take."),
            ("expert_mib", 1e6, "Size of a copy of an expert; DeepSeek-V3's in FP8 by default."),
            ("bandwidth_gbps", 1e6, "Gbit/s that a GPU receives."),
        )
    ),
    _seconds(
        "--cooldown",
        None,
        "From one rebalance to the next, at least; windows that come meanwhile wait for its end.  [default: as "
        "--payback]",
        least_is_zero=True,
    ),
)


def _check_address(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004  # the highest there is
            raise click.BadParameter(f"must be HOST:PORT, as 127.0.0.1:9096, got {value!r}")
    return value


@click.command("watch", help=_HELP, epilog=_EXIT_CODES)
@click.argument("where", metavar="LOADS")
@click.option("-o", "--output", metavar="FILE", type=FILE, required=True, help="Where engines read the placement.")
@output_format_option
@click.option("--journal", "journal_path", metavar="FILE", type=FILE, help="[default: OUTPUT.journal]")
@click.option(
    "--previous",
    metavar="FILE",
    type=FILE,
    help="The placement in force at the first start, where there is no journal yet.  [default: what is in the output, "
    "if it is there]",
)
@cluster_options
@reading_options(1)
@click.option(
    "--history",
    type=click.IntRange(1, _MOST_HISTORY),
    default=_HISTORY,
    show_default=True,
    help="Windows to decide by, the latest there are.",
)
@click.option(
    "--max-moves",
    type=click.IntRange(0),
    help="Most copies to move in a rebalance, over all layers.  [default: a tenth of the slots]",
)
@click.option("--min-gain", type=float, help="A layer that would gain less balancedness keeps its placement.")
@_rule_options
@_seconds("--interval", _INTERVAL, "From one look at LOADS to the next.")
@click.option("--once", is_flag=True, help="Look once, decide, and end.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; write neither output nor journal.")
@click.option(
    "--metrics-listen",
    metavar="HOST:PORT",
    callback=_check_address,
    help="Serve /metrics and /healthz there.  [default: nowhere]",
)
@target_options
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="Print an event as a JSON object on a line.")
@click.pass_context
def watch_command(
    context: click.Context,
    /,
    *,
    where: str,
    output: Path,
    output_format: str | None,
    journal_path: Path | None,
    previous: Path | None,
    reading: Reading,
    history: int,
    payback: float,
    moe_share: float,
    expert_mib: float,
    bandwidth_gbps: float,
    cooldown: float | None,
    interval: float,
    once: bool,
    dry_run: bool,
    metrics_listen: str | None,
    target: str,
    secure: dict[str, Any],
    as_json: bool,
    **options: Any,
) -> None:
    """Put the parts together, and go round until a signal comes."""
    journal_path = journal_path or output.with_name(f"{output.name}.journal")
    _check_files(output, output_format, journal_path)
    events = Events(click.echo, time.time, as_json=as_json, is_dry=dry_run)
    metrics = Metrics(time.monotonic)
    model = CostModel(moe_share=moe_share, expert_mib=expert_mib, bandwidth_gbps=bandwidth_gbps)
    timing = Timing(time.monotonic, interval, payback if cooldown is None else cooldown)
    slowest = max(_LEAST_SECONDS_A_ROUND, 2 * (interval + options["timeout"] + SECONDS_OF_ENDPOINT))
    gc.freeze()  # what was imported is never garbage
    gc.set_threshold(_COLLECT_AFTER)
    with told(str(output)), ExitStack() as stack:
        source = open_source(where, reading, history, frozenset(file.resolve() for file in (output, journal_path)))
        in_force = None if previous is None else read_placement(previous)
        records = _records(journal_path, State(History(history)), events, is_dry=dry_run)
        stack.callback(records.close)
        keeper = Keeper((DryOutput if dry_run else Output)(output, output_format), records, events, metrics)
        service = Service(target, secure, reading, **options)
        controller = Controller(
            source=source,
            service=service,
            worth=Worth(model, payback),
            keeper=keeper,
            records=records,
            events=events,
            metrics=metrics,
            timing=timing,
        )
        if metrics_listen is not None:
            stack.callback(_serve(metrics_listen, metrics, slowest, events).close)
        stop = Stop()
        stack.callback(stop.close)
        stack.enter_context(stop.on_signals())
        controller.start(time.time(), in_force)
        (controller.run_once if once else controller.run)(stop.wait)
    _end(context, events, stop.signal, controller.exit_code if once else 0)


def _check_files(output: Path, output_format: str | None, journal: Path) -> None:
    """Find out that nothing could be written.

    Raises:
        InputFailure: standard output, another ending, no such folder, or one file for both.
    """
    if STANDARD in {output, journal}:
        raise InputFailure("-o and --journal: must be files, standard output has the events")
    check_placement_output(output, output_format)
    check_place("--journal", journal, [])
    if output.resolve() == journal.resolve():
        raise InputFailure(f"--journal {journal}: is the output; name another")


def _records(path: Path, state: State, events: Events, *, is_dry: bool) -> Records:
    """The journal; for a dry run what it has, and nothing is added to it."""
    if not is_dry:
        journal = Journal(path, state, time.time)
        if journal.was_torn:
            events.tell("note", f"{path} ended in the middle of a line, which is cut off: nothing had come of it yet")
        return journal
    if path.exists():
        with path.open("rb") as file:
            replay(path, file, state)
    return Records(state, time.time)


def _serve(address: str, metrics: Metrics, slowest: float, events: Events) -> MetricsEndpoint:
    """Listen for scrapes.

    Raises:
        InputFailure: can't.
    """
    try:
        endpoint = MetricsEndpoint(address, metrics, most_seconds=slowest)
    except OSError as error:
        raise InputFailure(f"--metrics-listen {address}: {error.strerror or error}") from None
    events.tell("listening", f"metrics on http://{endpoint.address}/metrics", address=endpoint.address)
    return endpoint


def _end(context: click.Context, events: Events, by_signal: int | None, exit_code: int) -> None:
    """Say that it is over, and with which exit code."""
    if by_signal == signal.SIGINT:
        raise click.Abort
    if by_signal is not None:
        events.tell("ended", "ended, as asked to")
    context.exit(exit_code)
