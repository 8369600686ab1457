"""The page at /: what this server is, how it has been doing, what it solved last and how it is set.

It needs no script, no framework and nothing from elsewhere, and its headers forbid all of these; a few lines of script
renew what changes without a flicker. Whatever is not known to be harmless is left out or escaped: no caller's name,
and of settings that are files or lists only whether they are set.
"""

from __future__ import annotations

import base64
import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from html import escape
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Any, Literal, get_origin

from trimtab_server.history import History
from trimtab_server.http_pages import Answer
from trimtab_server.logs import LEVEL
from trimtab_server.recent_solves import RecentSolves, Solve
from trimtab_server.settings import Settings
from trimtab_server.status_charts import floor_of, layers_strip
from trimtab_server.status_figures import NOTHING, figures, seconds

_NUM_STRIPS = 4
_COMMANDS = frozenset({"check_config", "probe", "new_token"})
"""Settings that ask for something else than to serve."""
_OPEN_TEXTS = frozenset({"listen", "metrics_listen", "device"})
"""Settings of free text that are no secrets: of others, and of new ones, only whether they are set is shown."""


@dataclass(frozen=True)
class _State:
    """Whether calls should come here."""

    word: str
    why_not: str = ""

    @property
    def mark(self) -> str:
        """As HTML: by shape and word as well as by colour."""
        kind, shape = ("unready", "▲") if self.why_not else ("ready", "●")
        return (
            f'<span class="state {kind}"><span aria-hidden="true">{shape}</span> {self.word}</span>'
            f'<span class="soft">{self.why_not}</span>'
        )


@dataclass(frozen=True)
class StatusPage:
    """The page, as a function of the server it is about; called on any thread."""

    build: Mapping[str, str]
    """What runs here, by what it is called: version, solver, device, algorithms."""
    settings: Settings
    history: History
    solves: RecentSolves
    is_alive: Callable[[], bool]
    is_ready: Callable[[], bool]
    """Of one that is alive."""
    address: Callable[[], str]
    """Of the HTTP port."""
    _turn: threading.Lock = field(default_factory=threading.Lock)
    """Of who makes a page: some milliseconds of Python, which many at once would take from the event loop."""

    def __call__(self) -> Answer:
        """The page as it is now."""
        state = self._state()
        with self._turn:
            return self._page(state)

    def _page(self, state: _State) -> Answer:
        style, script = _asset("css"), _asset("js")
        page = Template(_asset("html")).substitute(
            title=f"trimtab: {state.word.lower()}",
            style=style,
            script=script,
            live=self._live(state),
            settings=_settings(self.settings),
            level_command=f"curl -X PUT -d debug http://localhost:{self.address().rpartition(':')[2]}/log-level",
        )
        sources = f"style-src {_hash(style)}; script-src {_hash(script)}; connect-src 'self'; img-src data:"
        rules = f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        headers = (
            ("Content-Security-Policy", rules),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        )
        return Answer(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8", headers)

    def _state(self) -> _State:
        if not self.is_alive():
            return _State("Not alive", "the event loop does not answer, or a solve is stuck")
        if not self.is_ready():
            return _State("Not ready", "starting, draining, or without its device")
        return _State("Ready")

    def _live(self, state: _State) -> str:
        """What changes by itself."""
        readings, current = self.history.readings, self.history.read()
        now = datetime.now(timezone.utc)
        return (
            f"{self._head(state, now)}"
            '<section aria-labelledby="minutes"><h2 id="minutes">The last 10 minutes</h2>'
            f'<div class="grid">{figures(readings, current)}</div>'
            '<p class="soft">Large numbers are of the last minute. p50 and p95 are interpolated within the buckets of '
            "/metrics over the minute before each point, and drawn only where at least one lies beyond them: p95 takes "
            "20 calls.</p></section>"
            '<section aria-labelledby="last"><h2 id="last">The last solves</h2>'
            f"{_solves(self.solves.latest, lambda at: _clock(now.timestamp() - (current.at - at)))}</section>"
        )

    def _head(self, state: _State, now: datetime) -> str:
        up = _duration(self.history.now() - self.history.started)
        facts = {**self.build, "Up": up, "Log level": LEVEL.name, "As of": f"{now:%Y-%m-%d %H:%M:%S} UTC"}
        told = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
        return f"<header><h1>trimtab</h1>{state.mark}</header><dl>{told}</dl>"


@cache
def _asset(kind: str) -> str:
    return files("trimtab_server").joinpath(f"status_page.{kind}").read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _clock(timestamp: float) -> str:
    return f"{datetime.fromtimestamp(timestamp, timezone.utc):%H:%M:%S}"


def _duration(seconds_up: float) -> str:
    """The two largest units of a time."""
    parts, rest = [], int(seconds_up)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def _solves(solves: list[Solve], clock: Callable[[float], str]) -> str:
    """The latest by layer, and all that are kept in a table; their box is always there, for the script."""
    strips = "".join(_strip(solve, clock(solve.at)) for solve in solves[:_NUM_STRIPS])
    table = _table([(clock(solve.at), solve) for solve in solves])
    content = table if solves else '<p class="empty">No solve yet. Pack and Rebalance will be shown here.</p>'
    box = (
        f'<div class="box" id="solves" tabindex="0" role="region" aria-label="Table of the last solves">{content}</div>'
    )
    return f'<div class="grid">{strips}</div>{box}'


def _strip(solve: Solve, when: str) -> str:
    """A solve's layers, as a figure."""
    before, change = solve.before.mean, _balancedness(solve.after.mean)
    if not math.isnan(before):
        change = f"{_balancedness(before)} → {change}"
    note = f"{solve.layers:,} layers · {when}"
    told = f"Balancedness by layer of a {solve.operation}: mean {change}, {note}"
    keys = f'<span><i class="key bar"></i>before <i class="key"></i>after · {note}</span>'
    return (
        f"<figure><figcaption><h3>{solve.operation}</h3><b>{change}</b>{keys}</figcaption>"
        f'<div class="plot scaled">{layers_strip(told, solve)}'
        f'<i class="top">1</i><i class="low">{floor_of(solve):.1f}</i></div>'
        f'<div class="axis scaled"><span>layer 0</span><span>layer {solve.layers - 1}</span></div></figure>'
    )


def _table(solves: list[tuple[str, Solve]]) -> str:
    rows = []
    for when, solve in solves:
        numbers = (
            f"{solve.layers:,}",
            _balancedness(solve.before.mean),
            _balancedness(solve.after.mean),
            NOTHING if solve.moves is None else f"{solve.moves.sum():,}",
            seconds(solve.seconds),
            f"{solve.requests}",
        )
        cells = "".join(f'<td class="number">{each}</td>' for each in numbers)
        rows.append(
            f'<tr><th scope="row">{when}</th><td>{solve.operation}</td>{cells}<td>{escape(solve.solver)}</td></tr>'
        )
    names = "".join(
        f'<th scope="col" class="number">{name}</th>'
        for name in ("Layers", "Before", "After", "Moves", "Solved in", "Batch")
    )
    head = f'<th scope="col">Time, UTC</th><th scope="col">Operation</th>{names}<th scope="col">Solver</th>'
    caption = "Balancedness is the mean over layers; Batch: the requests solved together, in the seconds told."
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _balancedness(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.4f}"


def _settings(settings: Settings) -> str:
    """Those that are not as by default, and, folded, the others."""
    fields = {name: setting for name, setting in Settings.model_fields.items() if name not in _COMMANDS}
    ours = [name for name, setting in fields.items() if getattr(settings, name) != setting.get_default()]
    rest = [name for name in fields if name not in ours]
    changed = _settings_table(settings, ours, "Other than by default") if ours else "<p>All are as by default.</p>"
    folded = _settings_table(settings, rest, "As by default")
    return f"{changed}<details><summary>{len(rest)} as by default</summary>{folded}</details>"


def _settings_table(settings: Settings, names: list[str], caption: str) -> str:
    rows = []
    for name in names:
        setting = Settings.model_fields[name]
        shown = _shown(name, getattr(settings, name), is_choice=get_origin(setting.annotation) is Literal)
        flag = f"--{name.replace('_', '-')}"
        rows.append(
            f'<tr><th scope="row"><code>{flag}</code></th><td>{escape(shown)}</td>'
            f'<td class="meaning">{escape(setting.description or "")}</td></tr>'
        )
    heads = "".join(f'<th scope="col">{each}</th>' for each in ("Setting", "Value", "Meaning"))
    table = f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="box" tabindex="0" role="region" aria-label="Settings: {caption}">{table}</div>'


def _shown(name: str, value: Any, *, is_choice: bool) -> str:
    """A setting's value, or whether there is one, where it may tell a secret or name somebody."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}"
    if isinstance(value, str) and (is_choice or name in _OPEN_TEXTS):
        return value
    return "set" if value else "not set"
