"""What callers have (arrays, numbers, names) as the requests of the contract; both clients build them here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from trimtab import wire
from trimtab.errors import InvalidArgumentError
from trimtab.v1 import placement_pb2 as pb

PriorityName = Literal["normal", "low"]
HierarchyName = Literal["automatic", "global", "hierarchical"]

_PRIORITIES = {"normal": pb.PRIORITY_UNSPECIFIED, "low": pb.PRIORITY_LOW}
_HIERARCHIES = {
    "automatic": pb.HIERARCHY_UNSPECIFIED,
    "global": pb.HIERARCHY_GLOBAL,
    "hierarchical": pb.HIERARCHY_HIERARCHICAL,
}


def pack_request(weight: Any, num_packs: int, priority: PriorityName, **options: Any) -> pb.PackRequest:
    """A request to pack; options that are None are left to the server.

    Raises:
        InvalidArgumentError: something that a request can't carry; the server checks the rest.
    """
    request = pb.PackRequest(weight=wire.encode(wire.to_array(weight, "weight")))
    request.priority = _named("priority", priority, _PRIORITIES)
    _set(request, "num_packs", num_packs)
    _set_options(request.options, options)
    return request


def rebalance_request(
    load: Any,
    *,
    previous: Any,
    hierarchy: HierarchyName,
    inactive_gpus: Sequence[int],
    gpu_speed: Sequence[float] | None,
    priority: PriorityName,
    num_restarts: int | None,
    noise_min: float | None,
    noise_max: float | None,
    seed: int,
    refine: bool | None,
    target_gap: float | None,
    **fields: Any,
) -> pb.RebalanceRequest:
    """A request to rebalance; what is None is left to the server.

    Raises:
        InvalidArgumentError: something that a request can't carry; the server checks the rest.
    """
    request = pb.RebalanceRequest(load=wire.encode(wire.to_array(load, "load")))
    if previous is not None:
        request.previous.CopyFrom(wire.encode(wire.to_array(previous, "previous")))
    request.priority = _named("priority", priority, _PRIORITIES)
    request.hierarchy = _named("hierarchy", hierarchy, _HIERARCHIES)
    _extend(request.inactive_gpus, "inactive_gpus", inactive_gpus)
    _extend(request.gpu_speed, "gpu_speed", () if gpu_speed is None else gpu_speed)
    for name, value in fields.items():
        if value is not None:
            _set(request, name, value)
    options = {"num_restarts": num_restarts, "noise_min": noise_min, "noise_max": noise_max}
    _set_options(request.options, {**options, "seed": seed, "refine": refine, "target_gap": target_gap})
    return request


def _named(field: str, name: str, values: dict[str, Any]) -> Any:
    if not isinstance(name, str) or name not in values:
        raise InvalidArgumentError.of(field, f"must be one of {', '.join(values)}, got {name!r}")
    return values[name]


def _set_options(message: pb.PackOptions, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            _set(message, name, value)


def _set(message: Any, name: str, value: Any) -> None:
    try:
        setattr(message, name, value)
    except (ValueError, TypeError) as error:  # a number that the field cannot hold, in protobuf's words
        raise InvalidArgumentError.of(name, f"{value!r} does not fit: {error}") from None


def _extend(repeated: Any, name: str, values: Any) -> None:
    try:
        repeated.extend(values)
    except (ValueError, TypeError) as error:  # as above
        raise InvalidArgumentError.of(name, f"{values!r} does not fit: {error}") from None
