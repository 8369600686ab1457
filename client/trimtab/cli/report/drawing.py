"""How drawings are made: by matplotlib, which is loaded only for them, into SVG that takes the page's colours, or PNG.

The same figures always give the same bytes: nobody's matplotlibrc counts, and neither dates nor chance names get in.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trimtab.cli.failures import InputFailure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLOURS = {
    "page": "#ffffff",
    "panel": "#f6f7f9",
    "rule": "#d5dae1",
    "text": "#1a1f26",
    "soft": "#525c69",
    "first": "#0a5bb5",
    "second": "#9a4a00",
}
"""In the light; the page has others for the dark, by the same names."""
_POINTS_PER_INCH = 72
_FONT_SIZE = 10
_PNG_DPI = 150
_INSET, _LETTER_WIDTH = 8, 7.5
"""Of the name on a picture: from the edges, and so wide are its letters, more or less."""
_MOST_MARKS = 4096
"""Of a drawing: more make a page heavy, and their places are too small to be pointed at."""
_LINE_OF_TEXT = 14
"""Points from a name at the end of a line to the next."""
_END_GAP, _NAME_GAP = 12, 20
"""Points from the axes to the look of a line, and to its name."""
_SETTINGS: Any = {  # matplotlib's stubs know the names of settings, each version its own
    "axes.edgecolor": COLOURS["soft"],
    "axes.facecolor": "none",
    "axes.labelcolor": COLOURS["text"],
    "axes.labelsize": _FONT_SIZE,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": _FONT_SIZE,
    "axes.unicode_minus": False,
    "figure.dpi": _POINTS_PER_INCH,
    "figure.facecolor": "none",
    "font.size": _FONT_SIZE,
    "grid.color": COLOURS["rule"],
    "hatch.color": COLOURS["rule"],
    "image.interpolation": "none",
    "legend.fontsize": _FONT_SIZE,
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["text"],
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "text.color": COLOURS["text"],
    "text.parse_math": False,  # names of files may hold dollars
    "xtick.color": COLOURS["soft"],
    "ytick.color": COLOURS["soft"],
}


def find_matplotlib(option: str) -> None:
    """Find out that nothing can be drawn before anything is solved.

    Raises:
        InputFailure: matplotlib is not there.
    """
    try:
        import matplotlib.figure  # noqa: F401, PLC0415  # only who draws needs it
    except ImportError as error:
        raise InputFailure(f"{option} needs matplotlib ({error}): pip install 'trimtab[cli]'") from None


@dataclass(frozen=True)
class Mark:
    """A part of a drawing that tells its numbers when it is pointed at, in the units of its axes."""

    axes: Axes
    left: float
    right: float
    bottom: float
    top: float
    told: str


class Margins(NamedTuple):
    """Around axes, in points; they are given rather than found, which takes matplotlib longer than to draw."""

    left: float
    right: float
    bottom: float = 36
    top: float = 8


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure, and what tells its numbers."""

    figure: Figure
    width: float
    """In points."""
    height: float
    marks: list[Mark] = field(default_factory=list)

    def add_axes(self, margins: Margins) -> Axes:
        """New axes that leave so much free around them."""
        width, height = (self.width - margins.left - margins.right), (self.height - margins.bottom - margins.top)
        sizes = (self.width, self.height, self.width, self.height)
        points = (margins.left, margins.bottom, width, height)
        left, bottom, wide, high = (point / size for point, size in zip(points, sizes, strict=True))
        return self.figure.add_axes((left, bottom, wide, high))

    def add_name(self, name: str) -> None:
        """A line of text in the upper left corner, its beginning cut off where it is too long."""
        most = int(self.width / _LETTER_WIDTH)
        shown = name if len(name) <= most else f"...{name[3 - most :]}"
        self.figure.text(_INSET / self.width, 1 - _INSET / self.height, shown, va="top", fontsize="large")


Draw = Callable[[Drawing], None]


@contextmanager
def _drawing(width: float, height: float) -> Iterator[Drawing]:
    """An empty drawing of so many points, and matplotlib set for it."""
    import matplotlib as mpl  # noqa: PLC0415  # only who draws needs it
    from matplotlib.figure import Figure  # noqa: PLC0415  # a figure of its own needs no display

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield Drawing(Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH)), width, height)


def as_png(draw: Draw, width: float, height: float) -> bytes:
    """The drawing as a file of its own."""
    content = io.BytesIO()
    with _drawing(width, height) as drawing, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters of a name that the font lacks are boxes, and no news
        draw(drawing)
        drawing.figure.savefig(
            content, format="png", dpi=_PNG_DPI, facecolor=COLOURS["page"], metadata={"Software": None}
        )
    return content.getvalue()


def as_svg(draw: Draw, width: float, height: float, name: str, told: str) -> str:
    """The drawing as part of a page.

    Args:
        draw: fills the drawing.
        width: in units that are about a pixel.
        height: the same.
        name: other than that of any drawing on the page.
        told: what is to be seen, for those who can't.
    """
    import matplotlib as mpl  # noqa: PLC0415  # as above

    content = io.StringIO()
    with _drawing(width, height) as drawing:
        mpl.rcParams["svg.hashsalt"] = name
        draw(drawing)
        drawing.figure.savefig(content, format="svg")
        marks = [_as_svg(mark, height) for mark in drawing.marks] if len(drawing.marks) <= _MOST_MARKS else []
    frame = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(told)}">'
    return f'{frame}{_for_page(content.getvalue(), name)}<g class="marks">{"".join(marks)}</g></svg>'


def _as_svg(mark: Mark, height: float) -> str:
    """A rectangle that is not seen."""
    corners = [(mark.left, mark.bottom), (mark.right, mark.top)]
    (left, one), (right, other) = mark.axes.transData.transform(corners)
    x, y = min(left, right), height - max(one, other)
    size = f'width="{abs(right - left):.1f}" height="{abs(other - one):.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size}><title>{escape(mark.told)}</title></rect>'


def _for_page(svg: str, name: str) -> str:
    """What stands in matplotlib's frame, without its date: in the page's colours and font, ids unlike others'."""
    content = svg[svg.index("</metadata>") + len("</metadata>") : svg.rindex("</svg>")]
    content = re.sub(r"<!--.*?-->|<style.*?</style>", "", content, flags=re.DOTALL)
    content = re.sub(r'style="([^"]*)"', lambda found: _attributes(found[1]), content)
    content = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", content)
    for colour, value in COLOURS.items():
        content = content.replace(f'"{value}"', f'"var(--{colour})"')
    meant = set(re.findall(r'(?:href="#|url\(#)([^")]+)', content))
    content = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in meant else "", content)
    content = re.sub(r'(href="#|url\(#)', rf"\1{name}-", content)
    return re.sub(r">\s+<", "><", content)


def _attributes(style: str) -> str:
    """A style as attributes, which a page may have whatever its policy says of styles."""
    kept = {}
    for part in style.split(";"):
        key, _, value = (piece.strip() for piece in part.partition(":"))
        if key == "font":
            key, value = "font-size", value.split()[0]
        if key and key not in {"font-family", "image-rendering"}:
            kept[key] = value
    return " ".join(f'{key}="{value}"' for key, value in kept.items())


def number_layers(axis: Axis, layers: Sequence[int]) -> None:
    """Write the layers' numbers at their places, which count from 0."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: PLC0415  # as above

    def number(place: float, _: int | None = None) -> str:
        return str(layers[round(place)]) if 0 <= place < len(layers) else ""

    axis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(number))


def name_ends(axes: Axes, ends: dict[str, tuple[float, dict[str, Any]]]) -> None:
    """Write the name of each line beside its end, and how it looks, names apart even where lines end close together.

    Args:
        axes: drawn already.
        ends: by name, the last value, nan where there is none, and the look.
    """
    low, high = axes.get_ylim()
    frame = axes.get_window_extent()
    step, beside, after = _LINE_OF_TEXT / frame.height, 1 + _END_GAP / frame.width, 1 + _NAME_GAP / frame.width
    heights = {name: 0.0 if np.isnan(end) else (end - low) / (high - low) for name, (end, _) in ends.items()}
    free = np.inf
    for name, height in sorted(heights.items(), key=lambda item: -item[1]):
        free = min(height, free)
        axes.plot(beside, free, transform=axes.transAxes, clip_on=False, **ends[name][1])
        axes.annotate(name, (after, free), xycoords="axes fraction", va="center")
        free -= step
