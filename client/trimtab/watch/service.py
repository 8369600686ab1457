"""What is asked of the service, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.answers import Placement
from trimtab.cli.failures import InputFailure, ServerFailure, told
from trimtab.cli.files import Reading, cluster_of
from trimtab.cli.judging import Slots
from trimtab.cli.replay import default_budget
from trimtab.client import Client
from trimtab.errors import InvalidArgumentError, OverloadedError, TrimtabError
from trimtab.formats import LoadWindows, StoredPlacement


class ServiceError(Exception):
    """There is no answer; the message is for users."""

    def __init__(self, failure: InputFailure | ServerFailure) -> None:
        super().__init__(failure.message)
        cause = failure.__cause__
        self.reason = cause.reason if isinstance(cause, TrimtabError) else "error"
        """What metrics count it as."""
        self.retry_after_seconds = cause.retry_after_seconds if isinstance(cause, OverloadedError) else None
        """When the service asks to be asked again."""
        self.is_final = isinstance(cause, InvalidArgumentError)
        """Whether asking the same again can't help."""
        self.exit_code = failure.exit_code


class MisfitError(Exception):
    """The placement in force is of another model than the loads; the message is for users."""


@dataclass(frozen=True, eq=False)
class Answer:
    """A placement that could come into force."""

    placement: Placement
    previous: Slots | None
    """[num_layers, num_replicas]: what it was made from; None where that was nothing."""
    stored: StoredPlacement
    """The placement, as it is written down."""
    num_gpus: int


class Service:
    """Asks for rebalances; a connection each, so that new certificates, tokens and addresses count at once."""

    def __init__(
        self,
        target: str,
        secure: Mapping[str, Any],
        reading: Reading,
        *,
        num_gpus: int | None,
        num_replicas: int | None,
        max_moves: int | None,
        **options: Any,
    ) -> None:
        """Ask nothing yet; `secure` are further arguments of `Client`, `options` those of its `rebalance`."""
        self._target, self._secure = target, secure
        self._reading = reading
        self._num_gpus, self._num_replicas = num_gpus, num_replicas
        self._max_moves = max_moves
        self._options = options

    def ask(self, loads: LoadWindows, in_force: StoredPlacement | None) -> Answer:
        """A placement for these loads, from the one in force within the budget, or from nothing where there is none.

        Raises:
            MisfitError: the placement in force is of another model.
            ServiceError: no answer.
            InputFailure: nobody said how many GPUs or slots there are.
        """
        previous = None
        if in_force is not None:
            in_force, loads = self._aligned(in_force, loads)
            previous = in_force.physical_to_logical
        num_gpus, num_replicas = cluster_of(self._num_gpus, self._num_replicas, in_force)
        budget = default_budget(loads.load, num_replicas) if self._max_moves is None else self._max_moves
        try:
            with told(self._target), Client(self._target, **self._secure) as client:
                placement = client.rebalance(
                    loads.load,
                    num_gpus=num_gpus,
                    num_replicas=num_replicas,
                    previous=previous,
                    max_moves=None if previous is None else budget,
                    **self._options,
                )
        except (InputFailure, ServerFailure) as failure:
            raise ServiceError(failure) from failure
        stored = StoredPlacement(placement.physical_to_logical, loads.layers, num_gpus)
        return Answer(placement, previous, stored, num_gpus)

    def _aligned(self, in_force: StoredPlacement, loads: LoadWindows) -> tuple[StoredPlacement, LoadWindows]:
        num_experts = loads.load.shape[2]
        if in_force.num_experts != num_experts:
            raise MisfitError(f"the placement in force is of {in_force.num_experts} experts, loads of {num_experts}")
        try:
            return self._reading.previous(in_force, loads)
        except InputFailure as failure:
            raise MisfitError(failure.message.replace("--previous", "the placement in force")) from failure
