"""The parts of a page, and the page: one file without a script that asks nobody for anything.

All text that comes in is escaped here, once; what comes in as HTML was made here or by `drawing`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from trimtab.cli.report.drawing import COLOURS

NOTHING = "–"  # noqa: RUF001  # a dash is what stands for no figure
"""A figure that there is not."""


def make_page(heading: str, name: str, content: Iterable[str], made_by: str) -> bytes:
    """The whole page.

    Args:
        heading: what it is a report of.
        name: what of that, as text.
        content: HTML.
        made_by: who found what it shows, as text.
    """
    style = _style()
    policy = f"default-src 'none'; style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    page = Template(_asset("html")).substitute(
        policy=policy,
        title=escape(f"{heading}: {name}"),
        style=style,
        heading=escape(heading),
        name=escape(name),
        content="\n".join(content),
        made_by=escape(made_by),
    )
    return page.encode()


@cache
def _asset(kind: str) -> str:
    return files("trimtab.cli.report").joinpath(f"page.{kind}").read_text("utf-8")


@cache
def _style() -> str:
    light = " ".join(f"--{name}: {colour};" for name, colour in COLOURS.items())
    return Template(_asset("css")).substitute(light=light)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def make_section(heading: str, *content: str) -> str:
    """A part of the page under its heading."""
    return f"<section><h2>{escape(heading)}</h2>{''.join(content)}</section>"


def make_paragraph(text: str, kind: str = "soft") -> str:
    """A paragraph."""
    return f'<p class="{kind}">{escape(text)}</p>'


def make_facts(facts: Mapping[str, str]) -> str:
    """Figures by what they are called."""
    told = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f"<dl>{told}</dl>"


def make_grid(*parts: str) -> str:
    """Figures side by side where there is room."""
    return f'<div class="grid">{"".join(parts)}</div>'


def make_figure(heading: str, text: str, svg: str, numbers: str) -> str:
    """A drawing with a heading, a text, and the numbers behind it in a table, folded away."""
    caption = f"<figcaption><h3>{escape(heading)}</h3><p>{escape(text)}</p></figcaption>"
    return f"<figure>{caption}{svg}<details><summary>Numbers</summary>{numbers}</details></figure>"


def make_table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    words: Collection[int] = (),
    *,
    tall: bool = False,
) -> str:
    """A table in a box that scrolls, down too where it is tall.

    Its first column names the rows, the others are numbers but for those of words.
    """

    def cell(index: int, text: str) -> str:
        if index == 0:
            return f'<th scope="row">{escape(text)}</th>'
        return f'<td class="words">{escape(text)}</td>' if index in words else f"<td>{escape(text)}</td>"

    def head(index: int, text: str) -> str:
        kind = ' class="words"' if index == 0 or index in words else ""
        return f'<th scope="col"{kind}>{escape(text)}</th>'

    heads = "".join(head(*column) for column in enumerate(columns))
    body = "".join(f"<tr>{''.join(cell(*each) for each in enumerate(row))}</tr>" for row in rows)
    table = f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
    kind = "box tall" if tall else "box"
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(caption)}">{table}</div>'


def told_count(count: int, one: str, many: str = "") -> str:
    """So many; what they are called where there are several is `many`, else the plain plural."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def sentence(text: str) -> str:
    """The text, as what stands alone."""
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."


def readable(name: str) -> str:
    """A foreign name as one line of text that stays where it is put: no control characters, nothing undecodable."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)
