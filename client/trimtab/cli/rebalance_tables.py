"""How a rebalance is shown."""

from __future__ import annotations

import numpy as np
from rich.console import Console

from trimtab.cli.figures import worst_layers
from trimtab.cli.rebalance import RebalanceReport
from trimtab.cli.tables import balance, count_layers, show_call, show_table, shown


def show_rebalance(console: Console, name: str, report: RebalanceReport) -> None:
    """The whole report of one rebalance."""
    placement = report.placement
    console.print(_what(name, report), soft_wrap=True)
    _show_quality(console, report)
    console.print()
    console.print(_moved(report), soft_wrap=True)
    if report.has_previous and report.live.any():
        _show_curve(console, report)
    if report.live.any():
        _show_worst(console, report)
    show_call(console, placement.execution, placement.algorithm, report.total_seconds)


def _what(name: str, report: RebalanceReport) -> str:
    num_windows, _, num_experts = report.windows.shape
    num_slots = report.placement.physical_to_logical.shape[1]
    layers = count_layers(report.live)
    gpus = f"{report.num_gpus} GPUs of {num_slots // report.num_gpus}"
    nodes = ", groups on their nodes" if report.placement.hierarchy == "hierarchical" else ""
    windows = f"; {num_windows} windows" if num_windows > 1 else ""
    return f"{name}: {layers}, {num_experts} experts in {num_slots} slots, {gpus}{nodes}{windows}"


def _show_quality(console: Console, report: RebalanceReport) -> None:
    placement = report.placement
    kinds = [
        ("before", placement.balancedness_before),
        ("after", placement.balancedness_after),
        ("bound: no placement is better", placement.bound),
        ("latest window, before", placement.latest_balancedness_before),
        ("latest window, after", placement.latest_balancedness_after),
        ("latest window, bound", placement.latest_bound),
    ]
    many = len(report.windows) > 1
    rows = [
        (label, *shown(figures))
        for label, figures in kinds[: None if many else 3]
        if report.has_previous or "before" not in label
    ]
    title = "Balancedness: mean over max load of the GPUs" + (", mean over windows" if many else "")
    show_table(console, title, "", "mean", "worst", rows=rows)


def _moved(report: RebalanceReport) -> str:
    share = f"{report.num_moves / report.num_filled:.1%} of {report.num_filled:,} slots"
    from_nothing = "" if report.has_previous else ": placed from nothing; --previous names a placement in force"
    return f"{report.num_moves:,} moves, {share}{from_nothing}"


def _show_curve(console: Console, report: RebalanceReport) -> None:
    mine = (report.num_moves, report.balancedness)
    points = [(moves, value) for moves, value in report.curve_points.tolist() if moves != report.num_moves]
    rows = [
        (f"with {moves:,.0f} moves" + (": this placement" if moves == report.num_moves else ""), balance(value))
        for moves, value in sorted([*points, mine])
    ]
    show_table(console, "What moves buy", "", "balancedness", rows=rows)


def _show_worst(console: Console, report: RebalanceReport) -> None:
    placement, hottest = report.placement, report.hottest
    rows = [
        (
            str(report.layers[layer]),
            f"{hottest[layer]:.1f}",
            "none" if np.isnan(placement.balancedness_before[layer]) else balance(placement.balancedness_before[layer]),
            balance(placement.balancedness_after[layer]),
            balance(placement.bound[layer]),
            f"{placement.moves[layer]:,}",
        )
        for layer in worst_layers(placement.balancedness_after)
    ]
    show_table(console, "Worst layers", "layer", "hot/mean", "before", "after", "bound", "moves", rows=rows)
