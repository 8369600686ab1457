"""A page of HTML, read as a browser would."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Reader(HTMLParser):
    """What a page holds, read as a browser would: a tag that is not closed, or closed twice, fails."""

    open: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of drawings."""
    sources: list[str] = field(default_factory=list)
    """All that could be asked for elsewhere."""
    text: dict[str, list[str]] = field(default_factory=dict)
    """By tag."""
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    """Rows, the heads first, by caption."""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        values = dict(attrs)
        if tag == "svg":
            self.names.append(values["aria-label"] or "")
        self.sources += [values[key] or "" for key in ("src", "href", "xlink:href", "action") if values.get(key)]
        assert not [key for key in values if key.startswith("on") or key == "style"]
        if tag in {"th", "td"}:
            self.rows[-1].append("")
        elif tag == "tr":
            self.rows.append([])
        elif tag == "table":
            self.rows: list[list[str]] = []
        if tag in {"meta", "link"}:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            caption = self.text["caption"][-1]
            assert caption not in self.tables
            self.tables[caption] = self.rows

    def handle_data(self, data: str) -> None:
        if not data.strip() or not self.open:
            return
        self.text.setdefault(self.open[-1], []).append(data)
        if self.open[-1] in {"th", "td"}:
            self.rows[-1][-1] += data

    def table(self, caption: str) -> list[list[str]]:
        """Rows below the heads of the one table whose caption has this in it."""
        (found,) = [rows for name, rows in self.tables.items() if caption in name]
        return found[1:]

    def heads(self, caption: str) -> list[str]:
        (found,) = [rows for name, rows in self.tables.items() if caption in name]
        return found[0]


def read(page: str) -> Reader:
    """The page, taken apart."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader
