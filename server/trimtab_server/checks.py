"""Checks that requests of several RPCs share: limits, options, priority, loads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trimtab import wire
from trimtab.errors import InvalidArgumentError
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.fair_queue import Priority
from trimtab_server.solvers.problem import PackOptions

_PRIORITIES: dict[int, Priority] = {pb.PRIORITY_UNSPECIFIED: Priority.NORMAL, pb.PRIORITY_LOW: Priority.LOW}
_MAX_SUM = float(np.finfo(np.float32).max)
_MAX_NOISE = 1.0


@dataclass(frozen=True)
class RequestLimits:
    """What one request may ask for; the names are those of the settings."""

    max_rows: int
    max_items: int
    max_restarts: int
    max_item_steps: int
    max_message_bytes: int


def at_most(field: str, what: str, value: int, limit: str, limits: RequestLimits) -> None:
    """Hold a value to the limit of this name."""
    allowed = getattr(limits, limit)
    if value > allowed:
        raise InvalidArgumentError.of(field, f"{what} is above this server's {limit} = {allowed}")


def read_options(options: pb.PackOptions, limits: RequestLimits) -> PackOptions:
    """The options of a request, checked."""
    given = {field.name: value for field, value in options.ListFields()}  # optional fields that are absent: defaults
    read = PackOptions(**given)
    if read.num_restarts < 1:
        raise InvalidArgumentError.of("options.num_restarts", f"must be at least 1, got {read.num_restarts}")
    at_most("options.num_restarts", str(read.num_restarts), read.num_restarts, "max_restarts", limits)
    if not 0 <= read.noise_min <= _MAX_NOISE:  # false for nan too
        raise InvalidArgumentError.of("options.noise_min", f"must be from 0 to 1, got {read.noise_min}")
    if not read.noise_min <= read.noise_max <= _MAX_NOISE:
        rule = f"must be from noise_min = {read.noise_min} to 1, got {read.noise_max}"
        raise InvalidArgumentError.of("options.noise_max", rule)
    if not 0 <= read.target_gap < float("inf"):
        raise InvalidArgumentError.of("options.target_gap", f"must be finite and at least 0, got {read.target_gap}")
    return read


def read_priority(priority: int) -> Priority:
    """The priority of a request, checked."""
    found = _PRIORITIES.get(priority)
    if found is None:
        raise InvalidArgumentError.of("priority", f"must be PRIORITY_UNSPECIFIED or PRIORITY_LOW, got {priority}")
    return found


def check_values(values: wire.Array, field: str) -> None:
    """Hold loads [.., layers, items] to be finite, at least 0, and to sums that fit."""
    # A sum shows every nan and infinity, and a minimum every sign: two passes where all is well.
    with np.errstate(over="ignore", invalid="ignore"):
        sums = values.sum(axis=-1, dtype=np.float64)
    if values.min() >= 0 and (sums <= _MAX_SUM).all():
        return
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), values.shape)
        rule = f"every {field} must be finite and at least 0, got {values[at]} at {[int(i) for i in at]}"
        raise InvalidArgumentError.of(field, rule)
    at = np.unravel_index(int(np.argmax(sums > _MAX_SUM)), sums.shape)
    where = f"layer {at[-1]}" if len(at) == 1 else f"layer {at[-1]} of window {at[0]}"
    rule = f"the sum of a layer must fit a float32, at most {_MAX_SUM:.4g}, got {sums[at]:.4g} in {where}"
    raise InvalidArgumentError.of(field, rule)
