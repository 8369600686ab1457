"""Who sends what to whom, in a map and in tables."""

from __future__ import annotations

from trimtab.cli.report.drawing import as_svg
from trimtab.cli.report.gpu_loads import pool_size, told_range
from trimtab.cli.report.heatmaps import MOST_PLACES, draw_transfers, pooled_transfers
from trimtab.cli.report.page import NOTHING, make_figure, make_grid, make_paragraph, make_table, sentence, told_count
from trimtab.cli.report.rebalanced import Rebalanced
from trimtab.cli.report.transfers import RULE_OF_SOURCES

_WIDTH, _HEIGHT = 420, 380


def make_transfers(found: Rebalanced) -> str:
    """All of them, or why there are none."""
    size = f"A copy is {found.model.expert_mib:g} MiB."
    if found.previous is None:
        return make_paragraph(f"Placed from nothing, every copy is loaded from storage. {size}")
    if not found.transfers.received.any():
        return make_paragraph("No copy has to come from elsewhere.")
    return make_paragraph(_rules(found, size)) + make_grid(_make_matrix(found), _make_gpus(found))


def _rules(found: Rebalanced, size: str) -> str:
    transfers, num_gpus = found.transfers, found.gpus.num_gpus
    told = [sentence(RULE_OF_SOURCES), size]
    if transfers.loaded.any():
        loaded = told_count(int(transfers.loaded.sum()), "copy comes", "copies come")
        told.append(f"{loaded} from storage, as no live GPU held the expert.")
    if transfers.local.any():
        local = told_count(int(transfers.local.sum()), "copy joins one", "copies join others")
        told.append(f"{local} of the same expert on its GPU, which crosses no network.")
    if pool_size(num_gpus, MOST_PLACES) > 1:
        told.append(f"{pool_size(num_gpus, MOST_PLACES)} neighbouring GPUs share a place, which shows their sum.")
    return " ".join(told)


def _make_matrix(found: Rebalanced) -> str:
    transfers, gib, num_gpus = found.transfers, found.gib_per_copy, found.gpus.num_gpus
    copies, size = pooled_transfers(transfers), pool_size(num_gpus, MOST_PLACES)
    text = (
        f"{told_count(int(transfers.received.sum()), 'copy', 'copies')}, {transfers.received.sum() * gib:,.1f} GiB; "
        f"a GPU sends {transfers.sent.sum(axis=1).max() * gib:,.2f} GiB at most and receives "
        f"{transfers.received.max() * gib:,.2f}. Brighter is more."
    )
    told = f"GiB from GPU to GPU. {text}"
    svg = as_svg(draw_transfers(transfers, gib), _WIDTH, _HEIGHT, "transfers", told)
    names = [told_range("GPU", range(num_gpus), place, size) for place in range(copies.shape[1])]
    senders = [*names, "storage"][: len(copies)]
    rows = ((name, *(f"{n:,}" if n else "" for n in row)) for name, row in zip(senders, copies.tolist(), strict=True))
    numbers = make_table("Copies from a GPU, down, to a GPU, across", ("from", *names), rows)
    return make_figure("From GPU to GPU", text, svg, numbers)


def _make_gpus(found: Rebalanced) -> str:
    """By GPU, all of them."""
    transfers, gib = found.transfers, found.gib_per_copy
    sent = transfers.sent.sum(axis=1)
    columns = (sent, sent * gib, transfers.received, transfers.received * gib, transfers.loaded)
    shows = ("{:,}", "{:,.2f}", "{:,}", "{:,.2f}", "{:,}")
    rows = [
        (f"GPU {gpu}", *(show.format(value) if value else NOTHING for show, value in zip(shows, values, strict=True)))
        for gpu, values in enumerate(zip(*(column.tolist() for column in columns), strict=True))
    ]
    heads = ("", "sends", "GiB", "receives", "GiB", "of these from storage")
    return make_table("Copies by GPU", heads, rows, tall=True)
