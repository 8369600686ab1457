"""What a rebalance comes to, in sentences and in the figures that matter."""

from __future__ import annotations

import numpy as np

from trimtab.cli.cost_model import RULE_OF_IMBALANCE, RULE_OF_MOVES
from trimtab.cli.figures import Figures, mean_and_worst
from trimtab.cli.report.page import NOTHING, make_facts, make_paragraph, make_table, sentence, told_count
from trimtab.cli.report.rebalanced import Rebalanced, mean_of

IN_ORDER = "experts in order"
_AS_GOOD_AS_ONE = 0.99995
"""A bound that says nothing, as it is shown."""


def make_headline(found: Rebalanced) -> str:
    """The sentences at the top."""
    effect = _effect(found)
    return make_paragraph(_outcome(found), "headline") + (make_paragraph(effect, "headline") if effect else "")


def _outcome(found: Rebalanced) -> str:
    before, after, bound = found.balancedness_before, found.balancedness_after, mean_of(found.placement.bound)
    if after is None or bound is None:
        return "No layer has any load, so there is nothing to balance."
    best = f"; no placement on these slots is above {bound:.4f}" if bound < _AS_GOOD_AS_ONE else ""
    if found.previous is None:
        beside = "" if before is None else f", where {IN_ORDER} would have {before:.4f}"
        return f"Placed from nothing, balancedness is {after:.4f}{beside}{best}."
    if not found.num_moves:
        return f"Nothing moves: balancedness is {after:.4f}{best}."
    moves = f"{told_count(found.num_moves, 'move')}, {found.num_moves / found.num_filled:.1%} of the filled slots"
    change = f"becomes {after:.4f}" if before is None else f"goes from {before:.4f} to {after:.4f}"
    return f"With {moves}, balancedness {change}{best}."


def _effect(found: Rebalanced) -> str:
    """What that is worth, as the cost model has it."""
    worth = found.worth
    if worth.lost_before is None or worth.lost_after is None or found.previous is None or not found.num_moves:
        return ""
    lost = f"Waiting for the heaviest GPU should cost {worth.lost_after:.1%} of the time, not {worth.lost_before:.1%}"
    pays = worth.seconds_to_pay_back
    repaid = "do not pay back" if pays is None else f"pay back after {_seconds(pays)} of serving"
    revived = int(found.transfers.loaded.sum())
    back = f" Of the moves, {revived:,} bring back what no live GPU held." if revived else ""
    return f"{lost}; the moves take {_seconds(worth.seconds_of_moves)} and {repaid}.{back}"


def make_figures(found: Rebalanced) -> str:
    """The same in a table, and what moves."""
    placement, worth = found.placement, found.worth
    has_before = found.gpus_before is not None
    kinds = [("balancedness", found.layers_before, placement.balancedness_after, placement.bound)]
    if len(found.windows) > 1:
        latest = placement.latest_balancedness_before if found.previous is not None else None
        kinds.append(("latest window", latest, placement.latest_balancedness_after, placement.latest_bound))
    rows = []
    for name, *figures in kinds:
        summed = [None if each is None else mean_and_worst(each) for each in figures]
        rows.append((f"{name}: mean of the layers", *(told_balancedness(each and each[0]) for each in summed)))
        rows.append((f"{name}: worst layer", *(told_balancedness(each and each[1]) for each in summed)))
    heaviest = [None if each is None else _most(each.level) for each in (found.gpus_before, found.gpus_after)]
    rows.append(("heaviest GPU: load over its layer's mean", *(told_balancedness(each) for each in heaviest), NOTHING))
    lost = [NOTHING if each is None else f"{each:.1%}" for each in (worth.lost_before, worth.lost_after)]
    rows.append(("time lost to imbalance", *lost, NOTHING))
    heads = ("", "before" if found.previous is not None else IN_ORDER, "after", "bound")
    shown = [each if has_before else (each[0], *each[2:]) for each in (heads, *rows)]
    return make_table(_caption(found), shown[0], shown[1:]) + _moved(found)


def _caption(found: Rebalanced) -> str:
    windows, layers, experts = found.windows.shape
    num_slots, num_gpus = found.slots.shape[1], found.gpus.num_gpus
    without = f" ({found.without_load} with no load)" if found.without_load else ""
    slots = f"{told_count(experts, 'expert')} in {told_count(num_slots, 'slot')}"
    parts = [
        f"{told_count(layers, 'layer')}{without}, {slots}, {told_count(num_gpus, 'GPU')} of {num_slots // num_gpus}"
    ]
    if windows > 1:
        parts.append(f"mean of {windows} windows")
    if not found.gpus.live.all():
        parts.append(f"inactive GPUs: {', '.join(map(str, np.flatnonzero(~found.gpus.live).tolist()))}")
    return "; ".join(parts)


def _moved(found: Rebalanced) -> str:
    transfers, gib, worth = found.transfers, found.gib_per_copy, found.worth
    most = int(transfers.received.max())
    to_one = {"To one GPU at most": f"{told_count(most, 'copy', 'copies')}, {most * gib:,.2f} GiB"}
    if found.previous is None:
        size = f"{found.num_moves * gib:,.1f} GiB"
        return make_facts({"Copies to load": f"{found.num_moves:,}", "From storage": size, **to_one})
    facts = {
        "Moves": f"{found.num_moves:,}",
        "Of the filled slots": f"{found.num_moves / found.num_filled:.1%}",
        "GPU to GPU": f"{transfers.sent.sum() * gib:,.1f} GiB",
        "From storage": f"{transfers.loaded.sum() * gib:,.1f} GiB",
        **to_one,
        "Moves take": _seconds(worth.seconds_of_moves),
    }
    if found.num_moves and worth.seconds_to_pay_back is not None:
        facts["Paid back after"] = f"{_seconds(worth.seconds_to_pay_back)} of serving"
    return make_facts(facts)


def make_rules(found: Rebalanced) -> str:
    """How seconds are counted."""
    model = found.model
    imbalance = f"{RULE_OF_IMBALANCE}; here the share is {model.moe_share:g}"
    moves = f"{RULE_OF_MOVES}; here {model.expert_mib:g} MiB and {model.bandwidth_gbps:g} Gbit/s"
    return make_paragraph(f"Time by this model: {imbalance}. {sentence(moves)}")


def _most(level: Figures) -> float | None:
    return None if np.isnan(level).all() else float(np.nanmax(level))


def told_balancedness(value: float | None) -> str:
    """A balancedness, or that there is none: None or nan."""
    return NOTHING if value is None or np.isnan(value) else f"{value:.4f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1000:,.0f} ms"
