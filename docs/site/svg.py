"""Drawings as SVG, in the colours of whoever looks at them."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

WIDTH = 720
_STYLE = """
  .card { fill: #ffffff; stroke: #d8dbe2 }
  text { fill: #22252b; font: 14px system-ui, sans-serif }
  .small { font-size: 12px; fill: #5b616e }
  .strong { font-weight: 600 }
  .line { stroke: #8a91a0; fill: none; stroke-width: 1.5 }
  .dashed { stroke: #8a91a0; fill: none; stroke-dasharray: 4 4 }
  .curve { stroke: #3f51b5; fill: none; stroke-width: 2.5 }
  .dot { fill: #3f51b5 }
  .other { fill: #c2571a }
  .box { fill: #eef0fb; stroke: #3f51b5 }
  .quiet { fill: #f3f4f6; stroke: #b9bfca }
  .a { fill: #3f51b5 } .b { fill: #7986cb } .c { fill: #26a69a } .d { fill: #f2a33a } .e { fill: #d1495b }
  .part { stroke: #ffffff; stroke-width: 1.5 }
  .inside { fill: #ffffff; font-size: 12px }
  @media (prefers-color-scheme: dark) {
    .card { fill: #15171c; stroke: #33373f }
    text { fill: #dde0e6 }
    .small { fill: #a3a9b6 }
    .curve { stroke: #8c9eff } .dot { fill: #8c9eff } .other { fill: #ff9e5e }
    .box { fill: #23284a; stroke: #8c9eff }
    .quiet { fill: #1f2229; stroke: #4a505c }
    .part { stroke: #15171c }
  }
"""


class Picture:
    """A card of a height, with what is drawn on it; lengths are in its own pixels."""

    def __init__(self, height: int, words: str) -> None:
        """The words are for those who do not see it."""
        self._parts = [f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>']
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label={quoteattr(words)}>\n<style>{_STYLE}</style>'
        )

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """A line of text; y is its baseline."""
        self._parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, *, kind: str, words: str = "") -> None:
        """A rectangle, with words for those who point at it."""
        title = f"<title>{escape(words)}</title>" if words else ""
        size = f'x="{x:g}" y="{y:.1f}" width="{width:g}" height="{height:.1f}"'
        self._parts.append(f'<rect {size} rx="3" class="{kind}">{title}</rect>')

    def line(self, points: list[tuple[float, float]], kind: str = "line") -> None:
        """A line through points."""
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline class="{kind}" points="{way}"/>')

    def arrow(self, points: list[tuple[float, float]]) -> None:
        """A line that ends in a tip; its last part goes right or down."""
        self.line(points)
        (before, (x, y)) = points[-2:]
        wings = [(x - 7, y - 4), (x, y), (x - 7, y + 4)] if before[1] == y else [(x - 4, y - 7), (x, y), (x + 4, y - 7)]
        self.line(wings)

    def dot(self, x: float, y: float, kind: str = "dot") -> None:
        """A point."""
        self._parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')

    def svg(self) -> str:
        """The file."""
        return "\n".join([self._head, *self._parts, "</svg>\n"])
