"""Whether the answers are worth the moves."""

from __future__ import annotations

from typing import Any

from deploy.grafana.panels import Section, chosen, heat, lines, mean, page, quantile, query, stacked

_BALANCEDNESS = "trimtab_balancedness"


def _labels(operation: str, stage: str) -> str:
    return f'operation="{operation}", stage="{stage}"'


def _of(operation: str, before: str) -> Section:
    about = {
        "before": f"{before} Low and falling: loads drift faster than they are rebalanced.",
        "after": "Of the answer. Should lie at the top; what does not has too few replicas or moves.",
    }
    means = [query(mean(_BALANCEDNESS, _labels(operation, stage)), stage) for stage in about]
    title = operation.capitalize()
    return title, [
        *(
            heat(f"{title}: {stage}", about[stage], _BALANCEDNESS, _labels(operation, stage), width=8)
            for stage in about
        ),
        lines(
            f"{title}: mean balancedness",
            "Mean load over the heaviest: 1 is perfect. The distance between the lines is what the calls are for.",
            "percentunit",
            means,
            alert="TrimtabRebalanceInVain" if operation == "rebalance" else "",
        ).max(1),
    ]


def _moves() -> Section:
    before, after = (f"({mean(_BALANCEDNESS, _labels('rebalance', stage))})" for stage in ("before", "after"))
    gain = f"({after} - {before}) / ({mean('trimtab_moves')}) * 1000"

    def sizes(histogram: str) -> list[Any]:
        return [query(mean(histogram), "mean"), query(quantile(0.95, histogram), "p95")]

    return "What rebalancing moves", [
        lines(
            "Moves",
            "Copies that a rebalance moves. Always at max_moves: the budget binds. (p95 is read from few buckets.)",
            "short",
            sizes("trimtab_moves"),
        ),
        lines(
            "Layers changed",
            "Layers that a rebalance touches. All of them each time: consider a min_gain.",
            "short",
            sizes("trimtab_layers_changed"),
        ),
        lines(
            "Gain for a thousand moves",
            "Balancedness gained. Near 0 the moves are not worth their traffic; below it dead GPUs had to be replaced.",
            "percentunit",
            [query(gain, "gain")],
            alert="TrimtabRebalanceInVain",
        ).min(-0.1),
    ]


def _restarts() -> Section:
    won = f"sum by (kind) (rate({chosen('trimtab_winning_restart_total')}[$__rate_interval]))"
    return "How packs are found", [
        stacked(
            "Layers won, by kind of restart",
            "first: the exact ordering will do. Mostly noisy: targets are hard to reach, and solves take longer.",
            "ops",
            [query(won, "{{kind}}")],
            width=24,
        ),
    ]


def quality() -> Any:
    """What the answers are like."""
    about = "How balanced answers are, against what was there before, and what they cost in moves."
    sections = (_of("rebalance", "Of the placement in force."), _moves(), _of("pack", "As the items were listed."))
    return page("trimtab-quality", "trimtab: quality", about, (*sections, _restarts()))
