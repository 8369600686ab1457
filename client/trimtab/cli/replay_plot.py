"""A replay drawn: balancedness over time and the moves it took, by matplotlib, which is loaded only for this."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trimtab.cli.failures import InputFailure
from trimtab.cli.replay import ReplayReport
from trimtab.cli.simulation import Policy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart without colours too: by lightness in grey, by line and by marker. The hues are those of Okabe and Ito.
_LOOKS: dict[Policy, dict[str, Any]] = {
    "none": {"color": "#000000", "linestyle": ":", "marker": "s"},
    "fresh": {"color": "#e69f00", "linestyle": "--", "marker": "^"},
    "budgeted": {"color": "#0072b2", "linestyle": "-", "marker": "o"},
}


_MOST_MARKERS = 30
_NAME_HEIGHT = 0.1
"""Of the height of a panel."""


def find_matplotlib() -> None:
    """Find out that nothing can be drawn before anything is solved.

    Raises:
        InputFailure: matplotlib is not there.
    """
    try:
        import matplotlib.figure  # noqa: F401, PLC0415  # only who draws needs it
    except ImportError as error:
        raise InputFailure(f"--plot needs matplotlib ({error}): pip install 'trimtab[cli]'") from None


def draw_replay(path: Path, name: str, report: ReplayReport) -> None:
    """Write a PNG.

    Raises:
        InputFailure: it can't be written there.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # as above; a figure of its own needs no display
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    figure.suptitle(name, x=0.01, ha="left", fontsize="medium")
    _draw(above, {policy: (series.window, series.balancedness) for policy, series in report.series.items()})
    _draw(below, {policy: (series.window, np.cumsum(series.moves)) for policy, series in report.series.items()})
    above.set_ylabel("balancedness: mean over max load")
    below.set_ylabel("moves so far")
    below.set_xlabel("window")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    try:
        figure.savefig(path, format="png", dpi=150, bbox_inches="tight", pad_inches=0.2)
    except OSError as error:
        raise InputFailure(f"--plot {path}: can't be written ({error.strerror or error})") from error


def _draw(axes: Axes, lines: dict[Policy, tuple[npt.NDArray[Any], npt.NDArray[Any]]]) -> None:
    """A panel of lines, each with its name at its end."""
    for policy, (window, value) in lines.items():
        axes.plot(window, value, markevery=max(len(window) // _MOST_MARKERS, 1), markersize=5, **_LOOKS[policy])
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    low, high = axes.get_ylim()
    ends = {policy: (value[~np.isnan(value)][-1:].sum() - low) / (high - low) for policy, (_, value) in lines.items()}
    free = np.inf
    for policy, end in sorted(ends.items(), key=lambda item: -item[1]):
        free = min(end, free)  # where lines end close together, names still stand apart
        axes.plot(1.02, free, transform=axes.transAxes, clip_on=False, markersize=5, **_LOOKS[policy])
        axes.annotate(policy, (1.035, free), xycoords="axes fraction", va="center")
        free -= _NAME_HEIGHT
