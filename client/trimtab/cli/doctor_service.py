"""The service: whether it is ours, which version, what it takes, how far away it is, and whether its solver works."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from trimtab.answers import Description, Execution, Packing
from trimtab.channel import LOCAL
from trimtab.cli.doctor_findings import Finding, attempt, ok, plain, warning, wrong
from trimtab.cli.doctor_health import check_health
from trimtab.client import Client
from trimtab.errors import OverloadedError, PermissionDeniedError, UnauthenticatedError
from trimtab.synthetic import generate_loads
from trimtab.version import __version__

_CALLS = 10
_CALLS_SECONDS = 2.0
"""No more calls are begun after it."""
_FAR_SECONDS = 0.1
_WAIT_SECONDS = 0.25
"""What a batch takes at most by default: who waits longer waits behind work that piles up."""
_COMPILED_SECONDS, _COMPILED_TIMES = 0.5, 10
_LAYERS, _ITEMS, _PACKS = 8, 64, 8

_LARGE = {"layers": 61, "slots": 288, "windows": 16, "GPUs": 32}
"""A large request of usual kind: a Rebalance of all layers of DeepSeek-V3 over 16 windows, in doubles."""


def check_service(target: str, secure: dict[str, Any], timeout: float) -> Iterator[Finding]:
    """All that calls can tell; `secure` as `Client` takes it."""
    client = attempt("options", target, lambda: Client(target, **secure))
    if isinstance(client, Finding):
        yield client
        return
    with client:
        description = attempt("describe", target, lambda: client.describe(timeout=timeout))
        is_described = isinstance(description, Description)
        is_denied = isinstance(description, Finding) and isinstance(description.cause, PermissionDeniedError)
        is_unknown = isinstance(description, Finding) and isinstance(description.cause, UnauthenticatedError)
        if isinstance(description, Finding):
            yield description
        else:
            yield from _check_description(description)
        if target != LOCAL and (is_described or is_denied or is_unknown):
            yield check_health(target, secure, timeout)
        if target != LOCAL and is_described:
            yield _check_latency(client, target, timeout)
        if is_described or is_denied:
            yield from _check_solver(client, target, timeout)


def _check_description(description: Description) -> Iterator[Finding]:
    solvers = ", ".join(f"{plain(name)} on {plain(device)}" for name, device in description.solvers) or "none"
    yield ok("describe", f"trimtab {plain(description.server_version)}, solver {solvers}")
    yield _check_version(description.server_version)
    yield _check_algorithms(description)
    yield _check_limits(description.limits)


def _check_version(version: str) -> Finding:
    ours, theirs = _numbers(__version__), _numbers(version)
    told = f"the server's is {plain(version)}, the client's {__version__}"
    if theirs is None or ours is None:
        return warning("version", f"{told}, which is no version", "ask those who run it what it is")
    if ours[0] != theirs[0]:
        return wrong("version", f"{told}: the contract changes between major versions", "install those of one version")
    if theirs < ours:
        advice = "upgrade the server"
        return warning("version", f"{told}: the server ignores options that it does not know yet", advice)
    newer = ": what is new there, this client can't ask for" if theirs > ours else ""
    return ok("version", told + newer)


def _numbers(version: str) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def _check_algorithms(description: Description) -> Finding:
    """Answers are the same bytes where these are the same."""
    if not description.rebalance_algorithm:
        found = f"{plain(description.algorithm) or 'no name'} to pack, none to rebalance"
        return warning("algorithms", found, "this server can't rebalance: upgrade it")
    names = f"{plain(description.algorithm)} to pack, {plain(description.rebalance_algorithm)} to rebalance"
    return ok("algorithms", names)


def _check_limits(limits: dict[str, int]) -> Finding:
    """Whether a large request of usual kind would be taken; a limit of 0 is one that the server does not tell."""
    layers, slots, windows, gpus = _LARGE.values()
    cells = layers * slots * windows
    needs = {
        "max_message_bytes": (cells + layers * slots) * 8,
        "max_rows": layers,
        "max_items": slots,
        "max_item_steps": cells * max(slots // gpus, gpus // 4),
    }
    what = ", ".join(f"{count} {name}" for name, count in _LARGE.items())
    short = [(name, need) for name, need in needs.items() if 0 < limits.get(name, 0) < need]
    if short:
        found = ", ".join(f"{name} is {limits[name]:,} and would have to be {need:,}" for name, need in short)
        advice = f"where you need that, start the server with {', '.join(_flag(name) for name, _ in short)} as large"
        return warning("limits", f"too small for {what}: {found}", advice)
    return ok("limits", f"large enough for {what} ({needs['max_message_bytes'] / 2**20:.1f} MiB)")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_latency(client: Client, target: str, timeout: float) -> Finding:
    seconds: list[float] = []
    while len(seconds) < _CALLS and sum(seconds) < _CALLS_SECONDS:
        begin = time.perf_counter()
        failed = attempt("latency", target, lambda: client.describe(timeout=timeout))
        if isinstance(failed, Finding):
            return failed
        seconds.append(time.perf_counter() - begin)
    median, worst = statistics.median(seconds), max(seconds)
    found = f"{len(seconds)} calls took {median * 1e3:.1f} ms in the middle, {worst * 1e3:.1f} ms at worst"
    figures = {"median_seconds": median, "worst_seconds": worst}
    if median > _FAR_SECONDS:
        return warning("latency", found, "every call takes that much: is it far away, or its CPU busy?", **figures)
    return ok("latency", found, **figures)


def _check_solver(client: Client, target: str, timeout: float) -> Iterator[Finding]:
    """Two small packings: the first may have to compile."""
    weight = generate_loads(_LAYERS, _ITEMS)

    def pack_twice() -> tuple[Packing, Packing]:
        first, second = (client.pack(weight, _PACKS, timeout=timeout) for _ in range(2))
        return first, second

    packings = attempt("solver", target, pack_twice)
    if isinstance(packings, Finding):
        # what the callers file does not allow may be meant so, and what is busy now may have time later
        passes = isinstance(packings.cause, (PermissionDeniedError, OverloadedError))
        yield replace(packings, state="warning") if passes else packings
        return
    first, second = (packing.execution for packing in packings)
    yield _check_solve(packings[1], first, second)
    if target == LOCAL:
        return
    wait = max(first.queue_seconds, second.queue_seconds)
    found = f"a call waited {wait * 1e3:.1f} ms for the solver"
    if wait > _WAIT_SECONDS:
        yield warning("queue", found, "work piles up: run more servers, or look who sends it", queue_seconds=wait)
    else:
        yield ok("queue", found, queue_seconds=wait)


def _check_solve(packing: Packing, first: Execution, second: Execution) -> Finding:
    who = f"{plain(second.solver)} on {plain(second.device)}"
    if any(np.any(np.bincount(row, minlength=_PACKS) != _ITEMS // _PACKS) for row in packing.pack_index):
        return wrong("solver", f"{who} answers with uneven packs", "take this server out, and tell its developers")
    took = f"packed {_LAYERS} layers of {_ITEMS} items in {second.solve_seconds * 1e3:.1f} ms"
    figures = {"first_solve_seconds": first.solve_seconds, "solve_seconds": second.solve_seconds}
    if second.solver == "torch" and second.device == "cpu":
        advice = "--solver cpu is many times faster: leave --solver out"
        return warning("solver", f"{who}, the reference, {took}", advice, **figures)
    if first.solve_seconds > max(_COMPILED_SECONDS, _COMPILED_TIMES * second.solve_seconds):
        found = f"{who} {took}, but took {first.solve_seconds:.1f} s the first time, as it compiled"
        return warning("solver", found, "it will be kept: the next start needs less", **figures)
    return ok("solver", f"{who} {took}", **figures)
