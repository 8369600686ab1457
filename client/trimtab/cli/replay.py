"""What `trimtab replay` does, and what it found, ready to be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from trimtab.answers import Placement
from trimtab.cli.cost_model import RULE_OF_IMBALANCE, RULE_OF_MOVES, CostModel
from trimtab.cli.failures import InputFailure
from trimtab.cli.figures import plain, summary
from trimtab.cli.judging import Slots
from trimtab.cli.simulation import Policy, Schedule, Series, Simulation, Windows
from trimtab.client import Client

POLICIES: tuple[Policy, ...] = get_args(Policy)
MEANING: dict[Policy, str] = {
    "none": "placed once and left alone",
    "fresh": "placed from nothing each time",
    "budgeted": "rebalanced within a budget of moves",
}
_SHARE_OF_SLOTS = 10
"""One slot in so many may change in a rebalance, where nothing else is said."""


@dataclass(frozen=True)
class Plan:
    """What is replayed, and how seconds are counted."""

    policies: Sequence[Policy]
    schedule: Schedule
    max_moves: int
    """Of one rebalance of `budgeted`, over all layers."""
    min_gain: float | None
    model: CostModel


@dataclass(frozen=True, eq=False)
class ReplayReport:
    """What each policy came to."""

    shape: tuple[int, int, int]
    """Windows, layers and experts."""
    num_gpus: int
    first: Placement
    """What all policies start from."""
    plan: Plan
    series: dict[Policy, Series]

    @property
    def num_judged(self) -> int:
        """Windows that were judged."""
        return self.shape[0] - self.plan.schedule.history

    @property
    def seconds_served(self) -> float:
        """How long they last."""
        return self.num_judged * self.plan.model.window_seconds

    def seconds_lost(self, policy: Policy) -> dict[str, float]:
        """To imbalance, to moves, and to both."""
        model, series = self.plan.model, self.series[policy]
        imbalance, moves = model.seconds_of_imbalance(series), model.seconds_of_moves(series)
        return {"imbalance": imbalance, "moves": moves, "total": imbalance + moves}

    def num_moves(self, policy: Policy) -> int:
        """Of all rebalances."""
        return int(self.series[policy].moves.sum())

    def num_rebalances(self, policy: Policy) -> int:
        """How often it placed anew."""
        return int(self.series[policy].rebalanced.sum())

    def moves_each(self, policy: Policy) -> float:
        """Moves of a rebalance, their mean; 0 where there was none."""
        return self.num_moves(policy) / max(self.num_rebalances(policy), 1)


def default_budget(windows: Windows, num_replicas: int) -> int:
    """Moves of a rebalance where nothing is said: a tenth of the slots of all layers."""
    return int(windows.shape[1]) * num_replicas // _SHARE_OF_SLOTS


def check_plan(plan: Plan, windows: Windows) -> None:
    """Find out that nothing would be learned.

    Raises:
        InputFailure: too few windows for one rebalance that is judged.
    """
    schedule = plan.schedule
    if len(windows) < schedule.least_windows:
        rule = f"--history {schedule.history} and --interval {schedule.interval} take {schedule.least_windows} windows"
        raise InputFailure(f"{rule} for one rebalance and a window to judge it on, there are {len(windows)}; give more")


def run_replay(
    client: Client, windows: Windows, plan: Plan, on_window: Callable[[], None] = lambda: None, **options: Any
) -> ReplayReport:
    """Replay every policy; the options are those of `Client.rebalance`, for all placements alike.

    Raises:
        TrimtabError: a call failed.
    """
    limits: dict[str, Any] = {"max_moves": plan.max_moves, "min_gain": plan.min_gain}

    def place(past: Windows, in_force: Slots | None) -> Slots:
        limited = {} if in_force is None else limits
        return client.rebalance(past, previous=in_force, **limited, **options).physical_to_logical

    first = client.rebalance(windows[: plan.schedule.history], **options)
    simulation = Simulation(windows, options["num_gpus"], plan.schedule, first.physical_to_logical, place)
    series = {policy: simulation.run(policy, on_window) for policy in plan.policies}
    num_windows, num_layers, num_experts = windows.shape
    return ReplayReport((num_windows, num_layers, num_experts), simulation.num_gpus, first, plan, series)


def in_words(report: ReplayReport) -> str:
    """What rebalancing within the budget would gain over the other policies that were replayed."""
    if "budgeted" not in report.series:
        return "Add --policy budgeted to see what rebalancing within a budget of moves would gain."
    served, mine = report.seconds_served, report.seconds_lost("budgeted")["total"]
    moves = f"{report.plan.max_moves:,} moves a rebalance"
    words = f"Rebalanced by trimtab within {moves}, serving loses {mine:,.1f} s of {served:,.0f} s."
    if "none" in report.series:
        words += f" {_beside_none(report, mine)}"
    if "fresh" in report.series:
        words += f" {_beside_fresh(report)}"
    return words


def _beside_none(report: ReplayReport, mine: float) -> str:
    lost = report.seconds_lost("none")["total"]
    share = abs(lost - mine) / report.seconds_served
    won = f"rebalancing wins back {share:.1%} of the time"
    more = (
        f"rebalancing costs {share:.1%} of the time: try a longer --history, a longer --interval or fewer --max-moves"
    )
    return f"Placed once and left alone it loses {lost:,.1f} s: {won if mine <= lost else more}."


def _beside_fresh(report: ReplayReport) -> str:
    lost, moves, mine = report.seconds_lost("fresh")["total"], report.num_moves("fresh"), report.num_moves("budgeted")
    times = f"{moves / mine:.1f} times the moves" if mine else f"{moves:,} moves where trimtab makes none"
    return f"Placed from nothing each time it loses {lost:,.1f} s, with {times}."


def as_json(report: ReplayReport) -> dict[str, Any]:
    """The report in plain types; balancedness of windows without load is null."""
    num_windows, num_layers, num_experts = report.shape
    plan, first = report.plan, report.first
    execution = first.execution
    return {
        "num_windows": num_windows,
        "num_windows_judged": report.num_judged,
        "num_layers": num_layers,
        "num_experts": num_experts,
        "num_replicas": first.physical_to_logical.shape[1],
        "num_gpus": report.num_gpus,
        "hierarchy": first.hierarchy,
        "history": plan.schedule.history,
        "interval": plan.schedule.interval,
        "max_moves": plan.max_moves,
        "min_gain": plan.min_gain,
        "model": {**asdict(plan.model), "imbalance": RULE_OF_IMBALANCE, "moves": RULE_OF_MOVES},
        "seconds_served": report.seconds_served,
        "policies": {policy: _policy_as_json(report, policy) for policy in report.series},
        "solver": execution.solver,
        "device": execution.device,
        "server_version": execution.server_version,
        "algorithm": first.algorithm,
        "summary": in_words(report),
    }


def _policy_as_json(report: ReplayReport, policy: Policy) -> dict[str, Any]:
    series = report.series[policy]
    return {
        "balancedness": summary(series.balancedness),
        "worst_layer": summary(series.worst_layer),
        "rebalances": report.num_rebalances(policy),
        "moves": report.num_moves(policy),
        "moves_per_rebalance": report.moves_each(policy),
        "seconds_lost": report.seconds_lost(policy),
        "series": {
            "window": series.window.tolist(),
            "balancedness": plain(series.balancedness),
            "worst_layer": plain(series.worst_layer),
            "rebalanced": series.rebalanced.tolist(),
            "moves": series.moves.tolist(),
            "most_received_by_a_gpu": series.most_received.tolist(),
        },
    }
