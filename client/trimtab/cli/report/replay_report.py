"""The report of a replay: a page of its own, and its balancedness and moves over time as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.cli.cost_model import RULE_OF_IMBALANCE, RULE_OF_MOVES
from trimtab.cli.figures import Figures, mean_and_worst
from trimtab.cli.replay import MEANING, ReplayReport, in_words
from trimtab.cli.report.drawing import COLOURS, Drawing, Margins, as_png, as_svg
from trimtab.cli.report.findings import one_window
from trimtab.cli.report.lines import draw_lines, draw_series
from trimtab.cli.report.page import (
    NOTHING,
    make_facts,
    make_figure,
    make_grid,
    make_page,
    make_paragraph,
    make_section,
    make_table,
    readable,
    sentence,
    told_count,
)
from trimtab.cli.simulation import Policy, Series
from trimtab.formats.whole_file import write_whole

_LOOKS: dict[str, dict[str, Any]] = {
    "none": {"color": COLOURS["text"], "linestyle": ":", "marker": "s"},
    "fresh": {"color": COLOURS["second"], "linestyle": "--", "marker": "^"},
    "budgeted": {"color": COLOURS["first"], "linestyle": "-", "marker": "o"},
}
"""By policy: told apart without colours too, by dash and by marker."""
_WIDTH, _HEIGHT = 420, 250
_PICTURE_WIDTH, _PICTURE_HEIGHT = 640, 460
_ABOVE, _BELOW = Margins(70, 90, bottom=200, top=32), Margins(70, 90, top=280)
Values = npt.NDArray[Any]


def write_replay_report(path: Path, name: str, report: ReplayReport) -> None:
    """Write one page with all that there is to be seen; the same figures make the same bytes.

    Args:
        path: where to.
        name: of the loads; any text.
        report: the replay.

    Raises:
        FileError: it can't be written there.
    """
    content = (
        make_paragraph(in_words(report), "headline"),
        _make_table(report),
        make_section("Over time", _make_panels(report)),
        make_section("How it was done", *_make_rules(report)),
    )
    execution = report.first.execution
    made_by = f"trimtab {execution.server_version}, {report.first.algorithm}, {execution.solver} on {execution.device}"
    write_whole(path, make_page("trimtab replay", readable(name), content, made_by))


def draw_replay(path: Path, name: str, report: ReplayReport) -> None:
    """Write balancedness and moves over time as PNG; for the arguments see above.

    Raises:
        FileError: it can't be written there.
    """

    def draw(drawing: Drawing) -> None:
        drawing.add_name(readable(name))
        above, below = (drawing.add_axes(margins) for margins in (_ABOVE, _BELOW))
        draw_lines(above, "balancedness", _lines(report, lambda series: series.balancedness), _LOOKS)
        draw_lines(below, "moves so far", _lines(report, _moves_so_far), _LOOKS)
        below.set_xlabel("window")

    write_whole(path, as_png(draw, _PICTURE_WIDTH, _PICTURE_HEIGHT))


def _lines(report: ReplayReport, values_of: Callable[[Series], Values]) -> dict[str, tuple[Values, Values]]:
    return {policy: (series.window, values_of(series)) for policy, series in report.series.items()}


def _moves_so_far(series: Series) -> Values:
    return np.cumsum(series.moves)


def _seconds_so_far(report: ReplayReport) -> Callable[[Series], Figures]:
    """To imbalance and moves, by the cost model, window by window."""
    model = report.plan.model

    def seconds(series: Series) -> Figures:
        windows = map(one_window, series.balancedness.tolist(), series.most_received.tolist())
        each = [model.seconds_of_imbalance(window) + model.seconds_of_moves(window) for window in windows]
        return np.cumsum(each)

    return seconds


def _make_panels(report: ReplayReport) -> str:
    panels: list[tuple[str, str, Callable[[Series], Values], Callable[[float], str]]] = [
        ("Balancedness", "balancedness", lambda series: series.balancedness, "{:.4f}".format),
        ("Worst layer", "balancedness", lambda series: series.worst_layer, "{:.4f}".format),
        ("Moves so far", "moves", _moves_so_far, "{:,.0f}".format),
        ("Seconds lost so far", "seconds", _seconds_so_far(report), "{:,.2f}".format),
    ]
    texts = {
        "Balancedness": "Mean over max load of the GPUs, mean of the layers.",
        "Worst layer": "The same of the layer that is balanced worst.",
        "Moves so far": f"Copies that changed GPUs; budgeted: at most {report.plan.max_moves:,} a rebalance.",
        "Seconds lost so far": f"To imbalance and moves, of {report.seconds_served:,.0f} s served.",
    }
    figures = []
    for place, (name, what, values_of, show) in enumerate(panels):
        lines = _lines(report, values_of)
        ends = "; ".join(f"{policy} ends at {_told(value[-1], show)}" for policy, (_, value) in lines.items())
        told = f"{name} by window. {texts[name]} {ends}."
        svg = as_svg(draw_series(what, lines, _LOOKS, show), _WIDTH, _HEIGHT, f"panel{place}", told)
        figures.append(make_figure(name, texts[name], svg, _numbers(name, lines, show)))
    return make_grid(*figures)


def _numbers(name: str, lines: dict[str, tuple[Values, Values]], show: Callable[[float], str]) -> str:
    windows = next(iter(lines.values()))[0].tolist()
    rows = (
        (str(window), *(_told(value[place], show) for _, value in lines.values()))
        for place, window in enumerate(windows)
    )
    return make_table(f"{name} by window", ("window", *lines), rows)


def _make_table(report: ReplayReport) -> str:
    num_windows, num_layers, num_experts = report.shape
    num_slots = report.first.physical_to_logical.shape[1]
    caption = (
        f"{told_count(num_windows, 'window')} of {told_count(num_layers, 'layer')}, "
        f"{told_count(num_experts, 'expert')} in {told_count(num_slots, 'slot')}, "
        f"{told_count(report.num_gpus, 'GPU')} of {num_slots // report.num_gpus}; "
        f"judged on {told_count(report.num_judged, 'window')}"
    )
    heads = ("policy", "balancedness", "worst window", "worst layer", "rebalances", "moves", "seconds lost", "share")
    return make_table(caption, heads, [_row(report, policy) for policy in report.series])


def _row(report: ReplayReport, policy: Policy) -> tuple[str, ...]:
    series, lost = report.series[policy], report.seconds_lost(policy)["total"]
    mean, worst = mean_and_worst(series.balancedness) or (np.nan, np.nan)
    _, worst_layer = mean_and_worst(series.worst_layer) or (np.nan, np.nan)
    return (
        policy,
        *(_told(value, "{:.4f}".format) for value in (mean, worst, worst_layer)),
        f"{report.num_rebalances(policy):,}",
        f"{report.num_moves(policy):,}",
        f"{lost:,.1f}",
        f"{lost / report.seconds_served:.1%}",
    )


def _make_rules(report: ReplayReport) -> list[str]:
    schedule, model = report.plan.schedule, report.plan.model
    plan = {
        "Placed on the latest": told_count(schedule.history, "window"),
        "Placed anew every": told_count(schedule.interval, "window"),
        "Most moves a rebalance": f"{report.plan.max_moves:,}",
        "Least gain of a layer": NOTHING if report.plan.min_gain is None else f"{report.plan.min_gain:g}",
    }
    policies: dict[str, str] = {policy: MEANING[policy] for policy in report.series}
    imbalance = f"{RULE_OF_IMBALANCE}; here {model.window_seconds:g} s and {model.moe_share:g}."
    moves = f"{RULE_OF_MOVES}; here {model.expert_mib:g} MiB and {model.bandwidth_gbps:g} Gbit/s."
    return [make_facts(policies), make_facts(plan), *(make_paragraph(sentence(each)) for each in (imbalance, moves))]


def _told(value: float, show: Callable[[float], str]) -> str:
    return NOTHING if np.isnan(value) else show(value)
