"""Whether a placement is worth its moves: an answer and the cost model in, a decision with its words out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from trimtab.cli.cost_model import CostModel
from trimtab.cli.figures import mean_and_worst
from trimtab.cli.judging import count_received
from trimtab.watch.service import Answer

RULE = (
    "rebalance when (balancedness after - before) x MoE share x payback seconds > most copies that one GPU receives x "
    "expert size / bandwidth"
)

Skipped = Literal["cooldown", "no_load", "misfit", "no_gain", "not_worth"]
"""Why a placement is kept: the last rebalance was too short ago, nothing to go by, another model than the loads are of,
nothing to gain within the budget, more seconds of moves than of gain."""


Figures = dict[str, float | None]
"""Of a decision, by name, for programs."""


@dataclass(frozen=True)
class Decision:
    """What is to be done with an answer."""

    words: str
    is_kept: Skipped | None
    """Why the placement in force is kept; None where the answer is to come into force."""
    moves: int
    before: float | None
    """Balancedness of the placement in force, mean over the layers with load; None without any, or without it."""
    after: float | None

    @property
    def figures(self) -> Figures:
        """What a program may want of it."""
        return {"moves": self.moves, "balancedness_before": self.before, "balancedness_after": self.after}


@dataclass(frozen=True)
class Worth:
    """The rule and its constants."""

    model: CostModel
    payback_seconds: float
    """How long a gain is taken to last."""

    def decide(self, answer: Answer) -> Decision:
        """Judge an answer; one that was made from nothing is the first placement, and taken."""
        before, after = (_mean(answer.placement.balancedness_before), _mean(answer.placement.balancedness_after))
        moves = int(answer.placement.moves.sum())

        def decided(words: str, is_kept: Skipped | None = None) -> Decision:
            return Decision(words, is_kept, moves, before, after)

        if after is None:
            return decided("no layer has load", "no_load")
        if answer.previous is None:
            return decided(f"places {moves:,} copies from nothing, balancedness {after:.4f}")
        was = before or 0.0
        if not moves or after <= was:
            return decided(f"nothing to gain within the budget, balancedness {was:.4f}", "no_gain")
        received = count_received(answer.previous, answer.placement.physical_to_logical, answer.num_gpus)
        gained, lost = self.seconds_gained(was, after), self.seconds_of_moves(int(received.max()))
        change = f"{moves:,} moves take balancedness from {was:.4f} to {after:.4f}"
        words = f"{change}, gaining {gained:.3g} s in {self.payback_seconds:g} s for {lost:.3g} s of moving"
        if gained > lost:
            return decided(words)
        return decided(f"{words}{self._fewer(answer.placement.curve, was, moves, lost)}", "not_worth")

    def seconds_gained(self, before: float, after: float) -> float:
        """Of those that the payback lasts."""
        return (after - before) * self.model.moe_share * self.payback_seconds

    def seconds_of_moves(self, received: int) -> float:
        """That serving waits, when the GPU that gets most gets so many copies."""
        return received * self.model.expert_mib * 2**20 * 8 / (self.model.bandwidth_gbps * 1e9)

    def _fewer(self, curve: npt.NDArray[np.float64], before: float, moves: int, lost: float) -> str:
        """What to ask for instead, where the curve has moves that pay, each taken to last as long as these do."""
        net = [(self.seconds_gained(before, after) - lost * some / moves, int(some)) for some, after in curve]
        best, some = max(net, default=(0.0, 0))
        return f"; --max-moves {some} would be worth it" if best > 0 else ""


def _mean(figures: npt.NDArray[np.float64]) -> float | None:
    found = mean_and_worst(np.asarray(figures))
    return found and found[0]
