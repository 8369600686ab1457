"""What the command shows, as plain sentences and small tables that fit 60 columns and survive a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import rich.box
from rich.console import Console
from rich.table import Table

from trimtab.answers import Description, Execution
from trimtab.cli.figures import Figures, mean_and_worst, seconds_of, worst_layers
from trimtab.cli.pack import PackReport


def show_table(console: Console, title: str, *columns: str, rows: Iterable[Sequence[str]]) -> None:
    """A table whose first column is text and whose others are figures, under a title that may be wider."""
    table = Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=index > 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(title, style="bold")
    console.print(table)


def show_pack(console: Console, name: str, report: PackReport) -> None:
    """The whole report of one packing."""
    console.print(_what(name, report), soft_wrap=True)
    _show_quality(console, report)
    if report.live.any():
        _show_worst(console, report)
    show_call(console, report.packing.execution, report.packing.algorithm, report.total_seconds)


def _what(name: str, report: PackReport) -> str:
    items, num_items = report.items, report.items.weight.shape[1]
    layers = count_layers(report.live)
    experts = f"{items.num_experts} experts" + (
        f" in {num_items} slots" if items.physical_to_logical is not None else ""
    )
    packs = f"{report.num_packs} packs of {num_items // report.num_packs}"
    windows = f"; the sum of {items.num_windows:,} windows" if items.num_windows > 1 else ""
    return f"{name}: {layers}, {experts}, {packs}{windows}"


def _show_quality(console: Console, report: PackReport) -> None:
    packing = report.packing
    rows = [
        ("before: items in the order given", *shown(report.before)),
        ("after", *shown(packing.balancedness)),
        ("gap to the lower bound", *shown(packing.gap, gap, low_is_bad=False)),
    ]
    show_table(console, "Balancedness: mean over max load of the packs", "", "mean", "worst", rows=rows)


def _show_worst(console: Console, report: PackReport) -> None:
    packing, weight = report.packing, report.items.weight
    rows = [
        (
            str(layer),
            f"{weight[layer].max() / weight[layer].mean():.1f}",
            balance(report.before[layer]),
            balance(packing.balancedness[layer]),
            gap(packing.gap[layer]),
            str(packing.winning_restart[layer]),
        )
        for layer in worst_layers(packing.balancedness)
    ]
    show_table(console, "Worst layers", "layer", "hot/mean", "before", "after", "gap", "restart", rows=rows)


def count_layers(live: npt.NDArray[np.bool_]) -> str:
    """How many layers there are, and how many of them have no load."""
    without = int((~live).sum())
    return f"{len(live)} layers" + (f" ({without} with no load)" if without else "")


def show_call(console: Console, execution: Execution, algorithm: str, total_seconds: float) -> None:
    """How an answer came about: where the time went, and who solved."""
    parts = seconds_of(execution, total_seconds).items()
    rows = [(name.replace("_", " "), f"{seconds * 1e3:.1f}") for name, seconds in parts]
    show_table(console, "Time", "", "ms", rows=rows)
    console.print()
    console.print(
        f"solver {execution.solver} on {execution.device}, {algorithm}, server {execution.server_version}, "
        f"{execution.batch_requests} in the batch",
        soft_wrap=True,
    )


def show_description(console: Console, target: str, description: Description) -> None:
    """What a server says of itself."""
    console.print(f"{target}: trimtab {description.server_version}, {description.algorithm}", soft_wrap=True)
    for name, device in description.solvers:
        console.print(f"solver {name} on {device}", soft_wrap=True)
    show_table(console, "Limits", "", "most", rows=[(name, f"{most:,}") for name, most in description.limits.items()])


def balance(value: float) -> str:
    """A balancedness."""
    return f"{value:.4f}"


def gap(value: float) -> str:
    """A gap; small ones are of interest too."""
    return f"{value:.1e}" if value else "0"


def shown(figures: Figures, show: Callable[[float], str] = balance, *, low_is_bad: bool = True) -> tuple[str, str]:
    """Mean and worst of figures, those that there are."""
    found = mean_and_worst(figures, low_is_bad=low_is_bad)
    return ("no load", "no load") if found is None else (show(found[0]), show(found[1]))
