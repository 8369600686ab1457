"""How a replay is shown."""

from __future__ import annotations

from rich.console import Console

from trimtab.cli.cost_model import RULE_OF_IMBALANCE, RULE_OF_MOVES
from trimtab.cli.replay import MEANING, ReplayReport, in_words
from trimtab.cli.simulation import Policy
from trimtab.cli.tables import show_table, shown


def show_replay(console: Console, name: str, report: ReplayReport) -> None:
    """The whole report of one replay."""
    console.print(_what(name, report), soft_wrap=True)
    console.print(_when(report), soft_wrap=True)
    for policy in report.series:
        console.print(f"{policy}: {MEANING[policy]}", soft_wrap=True)
    _show_balancedness(console, report)
    _show_moves(console, report)
    _show_seconds(console, report)
    console.print()
    console.print(in_words(report), soft_wrap=True)


def _what(name: str, report: ReplayReport) -> str:
    num_windows, num_layers, num_experts = report.shape
    num_slots = report.first.physical_to_logical.shape[1]
    gpus = f"{report.num_gpus} GPUs of {num_slots // report.num_gpus}"
    return f"{name}: {num_windows} windows of {num_layers} layers, {num_experts} experts in {num_slots} slots, {gpus}"


def _when(report: ReplayReport) -> str:
    schedule = report.plan.schedule
    past = "the window before" if schedule.history == 1 else f"the {schedule.history} windows before"
    often = "every window" if schedule.interval == 1 else f"every {schedule.interval} windows"
    return f"placed anew {often} on {past}, judged on what came next: {report.num_judged} windows"


def _show_balancedness(console: Console, report: ReplayReport) -> None:
    rows = [
        (policy, *shown(series.balancedness), shown(series.worst_layer)[1]) for policy, series in report.series.items()
    ]
    title = "Balancedness over time: mean over max load of the GPUs"
    show_table(console, title, "policy", "mean", "worst window", "worst layer", rows=rows)


def _show_moves(console: Console, report: ReplayReport) -> None:
    counts = (report.num_rebalances, report.num_moves, report.moves_each)
    rows = [(policy, *(f"{count(policy):,.0f}" for count in counts)) for policy in report.series]
    title = f"Moves; budgeted: at most {report.plan.max_moves:,} a rebalance"
    show_table(console, title, "policy", "rebalances", "moves", "a rebalance", rows=rows)


def _show_seconds(console: Console, report: ReplayReport) -> None:
    rows = [(policy, *_seconds(report, policy)) for policy in report.series]
    title = f"Seconds lost of {report.seconds_served:,.0f} served"
    show_table(console, title, "policy", "imbalance", "moves", "total", "share", rows=rows)
    model = report.plan.model
    console.print()
    console.print(f"{RULE_OF_IMBALANCE}; here {model.window_seconds:g} s and {model.moe_share:g}", soft_wrap=True)
    console.print(f"{RULE_OF_MOVES}; here {model.expert_mib:g} MiB and {model.bandwidth_gbps:g} Gbit/s", soft_wrap=True)


def _seconds(report: ReplayReport, policy: Policy) -> tuple[str, ...]:
    lost = report.seconds_lost(policy)
    share = lost["total"] / report.seconds_served
    return (*(f"{seconds:,.1f}" for seconds in lost.values()), f"{share:.1%}")
