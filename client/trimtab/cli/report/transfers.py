"""Where moved copies come from: two placements in, copies from GPU to GPU out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trimtab.cli.judging import Slots, copies_held
from trimtab.cli.report.gpu_loads import Gpus

Copies = npt.NDArray[np.int64]

RULE_OF_SOURCES = (
    "a moved copy comes from the live GPU, of those that held its expert before, that has sent least so far, layer by "
    "layer, GPU by GPU, expert by expert; ties go to the lowest"
)


@dataclass(frozen=True, eq=False)
class Transfers:
    """All moves of a placement, by how they come about; together they are its moves."""

    sent: Copies
    """[num_gpus, num_gpus]: copies from the first GPU to the second."""
    loaded: Copies
    """[num_gpus]: copies that no live GPU held before, to be loaded from where the model is stored."""
    local: Copies
    """[num_gpus]: second copies that a GPU makes of what it held already; nothing crosses the network."""

    @property
    def received(self) -> Copies:
        """[num_gpus]: copies that come to each GPU from outside of it."""
        found: Copies = self.sent.sum(axis=0) + self.loaded
        return found

    @property
    def num_moves(self) -> int:
        """All of them."""
        return int(self.received.sum() + self.local.sum())


def find_transfers(before: Slots | None, after: Slots, gpus: Gpus) -> Transfers:
    """Give every move a source, by RULE_OF_SOURCES; without a placement before, all copies are loaded."""
    num_gpus = gpus.num_gpus
    before = np.full_like(after, -1) if before is None else before
    num_experts = int(max(before.max(), after.max())) + 1
    held_before, held_after = (copies_held(slots, num_gpus, num_experts) for slots in (before, after))
    layer, gpu, expert = np.nonzero(held_after > held_before)
    copies = (held_after - held_before)[layer, gpu, expert].tolist()
    sources = _live_holders(held_before, gpus)
    sent, loaded, local = [[0] * num_gpus for _ in range(num_gpus)], [0] * num_gpus, [0] * num_gpus
    total = [0] * num_gpus
    for at, to, what, count in zip(layer.tolist(), gpu.tolist(), expert.tolist(), copies, strict=True):
        holders = sources.get((at, what), [])
        if to in holders:
            local[to] += count
        elif not holders:
            loaded[to] += count
        else:
            for _ in range(count):
                source = min(holders, key=total.__getitem__)  # the first of equals, and holders ascend
                sent[source][to] += 1
                total[source] += 1
    return Transfers(np.array(sent), np.array(loaded), np.array(local))


def _live_holders(held: Copies, gpus: Gpus) -> dict[tuple[int, int], list[int]]:
    """The live GPUs that hold an expert of a layer, ascending, by (layer, expert)."""
    found: dict[tuple[int, int], list[int]] = {}
    for gpu in np.flatnonzero(gpus.live).tolist():
        for layer, expert in zip(*(places.tolist() for places in np.nonzero(held[:, gpu])), strict=True):
            found.setdefault((layer, expert), []).append(gpu)
    return found
