"""What a check of `trimtab doctor` finds, and how it is told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

import click

from trimtab.cli.failures import told

State = Literal["ok", "warning", "wrong", "skipped"]
Answer = TypeVar("Answer")

_WITH_ADVICE = re.compile(r"(.*\)); (.+)", re.DOTALL)
"""A failure of the command: what happened, the cause in brackets, and what to do."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    state: State
    found: str
    advice: str = ""
    """What to do next; nothing where all is well."""
    figures: dict[str, float] = field(default_factory=dict)
    """Numbers in `found`, for scripts."""
    cause: BaseException | None = None
    """The error of a call that failed."""

    @property
    def line(self) -> str:
        """For people."""
        return f"{self.state:<8} {self.check:<12} {self.found}" + (f"; {self.advice}" if self.advice else "")


def ok(check: str, found: str, **figures: float) -> Finding:
    """All is well."""
    return Finding(check, "ok", found, figures=figures)


def warning(check: str, found: str, advice: str, **figures: float) -> Finding:
    """It works, and could be better or will break."""
    return Finding(check, "warning", found, advice, figures)


def wrong(check: str, found: str, advice: str = "") -> Finding:
    """It can't work like this."""
    return Finding(check, "wrong", found, advice)


def skipped(check: str, reason: str, advice: str = "") -> Finding:
    """Not looked at."""
    return Finding(check, "skipped", reason, advice)


def attempt(check: str, target: str, call: Callable[[], Answer]) -> Answer | Finding:
    """The answer of a call, or what is wrong, in the words of all commands."""
    try:
        with told(target):
            return call()
    except click.ClickException as failure:
        parts = _WITH_ADVICE.fullmatch(failure.message)
        found, advice = parts.groups() if parts else (failure.message, "")
        return Finding(check, "wrong", found, advice, cause=failure.__cause__)


def plain(text: str) -> str:
    """What somebody else wrote, as a terminal can show it."""
    return "".join(c if c.isprintable() else "?" for c in text)


def joined(names: Iterable[str], most: int = 8) -> str:
    """Names in a row, the last ones counted where they are many."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def counts(findings: Sequence[Finding]) -> dict[str, int]:
    """How many there are in each state."""
    found = Counter(finding.state for finding in findings)
    return {state: found[state] for state in get_args(State)}


def summary(findings: Sequence[Finding]) -> str:
    """The closing line."""
    count = counts(findings)
    warnings = f"{count['warning']} warning{'s' if count['warning'] != 1 else ''}"
    if not count["wrong"]:
        return "all is well" if not count["warning"] else f"nothing is wrong, {warnings}"
    first = next(finding.check for finding in findings if finding.state == "wrong")
    found = f"{count['wrong']} wrong, {warnings}"
    return found + (f": begin with {first}, which may be the cause of the rest" if count["wrong"] > 1 else "")


def as_json(target: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """All of it in plain types."""
    return {
        "target": target,
        "well": not counts(findings)["wrong"],
        "counts": counts(findings),
        "findings": [
            {
                "check": finding.check,
                "state": finding.state,
                "found": finding.found,
                "advice": finding.advice,
                **finding.figures,
            }
            for finding in findings
        ],
    }
