"""What the plug-ins of all engines do alike: switch on, or say why not; look before they replace; hand over maps."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trimtab.engines.balancer import Balancer
from trimtab.engines.question import Slots
from trimtab.engines.settings import Settings
from trimtab.errors import InvalidArgumentError
from trimtab.replication import count_replicas, slots_of_experts


class UnknownEngineError(Exception):
    """The installed engine has not what the plug-in puts itself in the place of."""


def switch_on(engine: str, logger: logging.Logger, put_in_place: Callable[[Balancer], bool]) -> None:
    """Put trimtab in place, where the environment says so; whatever is in the way is logged, never raised.

    Args:
        engine: its name as it writes it; in upper case a part of the variables' names.
        logger: one whose lines the engine shows.
        put_in_place: does it, and says whether it was not done yet; raises UnknownEngineError where it can't be done.
    """
    try:
        settings = Settings.read(engine)
        if settings is not None and put_in_place(Balancer(settings, logger)):
            logger.info("trimtab at %s places the experts, where EPLB is enabled", settings.target)
    except InvalidArgumentError as error:
        logger.error("trimtab stays off: %s", error)  # noqa: TRY400  # the message says it all
    except UnknownEngineError as error:
        logger.error("trimtab stays off: the installed %s %s", engine, error)  # noqa: TRY400  # as above
    except Exception:
        logger.exception("trimtab stays off")


def check_arguments(algorithm: Callable[..., Any], known: Sequence[str]) -> None:
    """Find out before the engine calls whether it calls as trimtab expects it.

    Raises:
        UnknownEngineError: it has other arguments.
    """
    found = list(inspect.signature(algorithm).parameters)
    if found != list(known):
        raise UnknownEngineError(f"calls its algorithm with {', '.join(found)}; trimtab knows {', '.join(known)}")


def three_maps(placed: Slots, num_experts: int) -> tuple[Any, Any, Any]:
    """The tensors physical_to_logical [L, P], logical_to_physical [L, E, X] padded with -1, logical_count [L, E]."""
    import torch  # noqa: PLC0415  # the engine's own, where it calls

    slots: Slots = slots_of_experts(placed, num_experts)
    counts: Slots = count_replicas(placed, num_experts)
    return torch.from_numpy(placed), torch.from_numpy(slots), torch.from_numpy(np.ascontiguousarray(counts))
