"""What solves problems of every kind, each by its solvers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.placement import PlacementAnswer, RebalanceProblem, Searcher
from trimtab_server.solvers.placing import solve_rebalances
from trimtab_server.solvers.problem import PackAnswer, Packer, PackProblem

AnyProblem = PackProblem | RebalanceProblem
AnyAnswer = PackAnswer | PlacementAnswer

_WARM_UP_LAYERS = 58
_WARM_UP_EXPERTS = 256


class Engine:
    """The packer and the searcher of a server; one problem at a time, or several that share a solve."""

    def __init__(self, packer: Packer, searcher: Searcher) -> None:
        self.packer = packer
        self.searcher = searcher

    def solve(self, problems: Sequence[Any]) -> Sequence[Any]:
        """Answers to problems of one kind and with one share_key, in the same order."""
        if isinstance(problems[0], PackProblem):
            return solve_packs(problems, self.packer)
        return solve_rebalances(problems, self.packer, self.searcher)

    def warm_up(self) -> None:
        """Solve one problem of each kind, so that no request pays for compiling, loading code and first allocations."""
        load = np.random.default_rng(0).random((1, _WARM_UP_LAYERS, _WARM_UP_EXPERTS))
        self.solve([PackProblem(np.resize(load[0], (_WARM_UP_LAYERS, 288)), 32)])
        (placed,) = self.solve([RebalanceProblem(load, 288, 32)])
        self.solve([RebalanceProblem(load[:, ::-1], 288, 32, previous=placed.physical_to_logical)])
