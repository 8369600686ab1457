"""Asks the service for all ranks of an engine, so that every rank ends with the same placement whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from trimtab.answers import Placement
from trimtab.client import Client
from trimtab.engines.outcomes import Outcomes
from trimtab.engines.question import Question, Slots
from trimtab.engines.ranks import Coordinator, Ranks
from trimtab.engines.settings import Settings
from trimtab.errors import InvalidArgumentError, TrimtabError


class Balancer:
    """Decides what all ranks place; one for a process.

    Ranks that differ would corrupt the engine. So one rank asks, with a deadline, and hands the others what it got or
    that it got nothing; no rank decides by its clock, its settings or its connection. Where nothing can be handed over
    (the ranks can't reach each other), each keeps the placement in force, and the engine's own next collective fails.
    """

    def __init__(self, settings: Settings, logger: logging.Logger) -> None:
        self.settings = settings
        self.outcomes = Outcomes(logger)
        self._logger = logger
        self._groups_fit = True
        self._client: Client | None = None
        self._known: Coordinator | None = None
        self._all_have_it = False

    def placement(self, question: Question, get_group: Callable[[], Coordinator]) -> Slots | None:
        """What every rank of the group places: the service's answer, else what is in force.

        None: the engine's own algorithm, which gives the same on every rank: where not all ranks have the plug-in, and
        where there is no answer and no placement that could be kept.
        """
        try:
            coordinator = get_group()
            ranks = Ranks(coordinator)
            if not self._may_ask(ranks, coordinator):
                return None
            answer = self._ask(question, self._deadline(coordinator)) if ranks.asks else None
            told = ranks.tell(answer, question.shape)
        except Exception as error:  # noqa: BLE001  # whatever it is, it must not end the engine
            self.outcomes.kept("ranks", f"the ranks could not be reached: {error!r}")
            told = None
        if told is None and question.in_force is not None:
            return question.in_force.astype(np.int64)  # a copy: the engine writes into its own
        return told

    def _may_ask(self, ranks: Ranks, coordinator: Coordinator) -> bool:
        if coordinator is not self._known:
            self._all_have_it = ranks.all_have_it()
            self._known = coordinator
        if not self._all_have_it:
            self.outcomes.kept("ranks without trimtab", "not all ranks have it switched on, so none uses it")
        return self._all_have_it

    def _ask(self, question: Question, timeout: float) -> Slots | None:
        """The service's placement; None where there is none to be had. Raises nothing: the other ranks are waiting."""
        try:
            return self._answer(question, timeout)
        except TrimtabError as error:
            self.outcomes.kept(error.reason, f"{self.settings.target}: {error}")
        except Exception as error:  # noqa: BLE001  # as above
            self.outcomes.kept("error", f"{self.settings.target}: {error!r}")
        return None

    def _answer(self, question: Question, timeout: float) -> Slots | None:
        if not question.load.any():
            self.outcomes.kept("no load", "no load yet, nothing to ask", failure=False)
            return None
        placement = self._rebalance(question, timeout)
        placed: Slots = placement.physical_to_logical
        if not question.is_whole(placed):
            self.outcomes.kept("wrong answer", f"{self.settings.target}: not a placement of what was asked")
            return None
        self.outcomes.placed(_figures(placement))
        return placed

    def _deadline(self, coordinator: Coordinator) -> float:
        """Seconds; well within those after which the waiting ranks would give up, where the engine tells them."""
        patience = getattr(coordinator, "cpu_timeout", None)
        return self.settings.timeout if patience is None else min(self.settings.timeout, patience.total_seconds() / 2)

    def _rebalance(self, question: Question, timeout: float) -> Placement:
        if question.breaks_up_groups and self.settings.max_moves is None and self._groups_fit:
            try:
                return self._call(replace(question, previous=None, hierarchy="hierarchical"), timeout)
            except InvalidArgumentError as error:  # no cluster for it; else the next call says what is wrong
                self._groups_fit = False
                self._logger.warning("trimtab: groups of experts can't stay on nodes: %s", error)
        return self._call(question, timeout)

    def _call(self, question: Question, timeout: float) -> Placement:
        self._client = self._client or self.settings.client()
        bounded = question.in_force is not None  # else slots have to be filled, whatever that moves
        return self._client.rebalance(
            question.load,
            num_gpus=question.num_gpus,
            num_replicas=question.num_replicas,
            num_nodes=question.num_nodes,
            num_groups=question.num_groups,
            hierarchy=question.hierarchy,
            previous=question.start,
            max_moves=self.settings.max_moves if bounded else None,
            min_gain=self.settings.min_gain if bounded else None,
            timeout=timeout,
        )


def _figures(placement: Placement) -> str:
    before, after = (_mean(layers) for layers in (placement.balancedness_before, placement.balancedness_after))
    risen = f"{after:.4f}" if np.isnan(before) else f"{before:.4f} to {after:.4f}"
    return f"{placement.moves.sum()} moves, balancedness {risen}"


def _mean(layers: npt.NDArray[np.float64]) -> float:
    """Over layers with load; nan where there are none, as there is no "before" without a placement."""
    known = layers[~np.isnan(layers)]
    return float(known.mean()) if known.size else np.nan
