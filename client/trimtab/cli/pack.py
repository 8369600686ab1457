"""What `trimtab pack` does, and what it found, ready to be shown."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trimtab.answers import Packing
from trimtab.cli.figures import Figures, call_as_json, plain, summary, worst_layers
from trimtab.cli.files import Reading
from trimtab.client import Client
from trimtab.formats import Source
from trimtab.formats.whole_file import write_whole
from trimtab.replication import replicate_experts, slot_weight


@dataclass(frozen=True, eq=False)
class Items:
    """What is packed: the experts of each layer, or the slots of their replicas."""

    load: npt.NDArray[Any]
    """[num_layers, num_experts]."""
    weight: npt.NDArray[Any]
    """[num_layers, num_items]."""
    num_windows: int
    """Windows that were summed."""
    physical_to_logical: npt.NDArray[np.int64] | None
    """[num_layers, num_items]: the expert of each item, where there are replicas."""

    @property
    def num_experts(self) -> int:
        """Experts of a layer."""
        return int(self.load.shape[1])


def make_items(load: npt.NDArray[Any], num_replicas: int | None, num_windows: int = 1) -> Items:
    """The items of loads [num_layers, num_experts], which are the sum of so many windows.

    Raises:
        InvalidArgumentError: fewer replicas than experts.
    """
    if num_replicas is None:
        return Items(load, load, num_windows, None)
    physical_to_logical, logical_count = replicate_experts(load, num_replicas)
    weight = slot_weight(load, physical_to_logical, logical_count)
    return Items(load, weight, num_windows, physical_to_logical)


def read_items(files: Sequence[Path | Source], num_replicas: int | None, reading: Reading) -> Items:
    """The items of load files, their windows summed.

    Raises:
        FileError: one is not a file of loads.
        InvalidArgumentError: fewer replicas than experts.
    """
    loads = reading.loads(files)
    return make_items(loads.load[0], num_replicas, loads.num_read)


@dataclass(frozen=True, eq=False)
class PackReport:
    """A packing, the items it is of, and how long it took."""

    items: Items
    num_packs: int
    packing: Packing
    total_seconds: float

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        """[num_layers]: which layers have load."""
        return self.packing.max_load > 0

    @property
    def before(self) -> Figures:
        """[num_layers]: balancedness with the items left in the order given, nan without load."""
        weight = self.items.weight.astype(np.float64)
        loads = weight.reshape(len(weight), self.num_packs, -1).sum(axis=2)
        balancedness: Figures = np.divide(
            loads.mean(axis=1), loads.max(axis=1), out=np.full(len(loads), np.nan), where=self.live
        )
        return balancedness


def run_pack(client: Client, items: Items, num_packs: int, **options: Any) -> PackReport:
    """Pack the items; the connection is made before the clock starts.

    Raises:
        TrimtabError: the call failed.
    """
    client.describe(timeout=options.get("timeout"))
    begin = time.perf_counter()
    packing = client.pack(items.weight, num_packs, **options)
    return PackReport(items, num_packs, packing, time.perf_counter() - begin)


def save_packing(report: PackReport, output: Path) -> None:
    """Write the answer as an archive of arrays.

    Raises:
        FileError: it can't be written there.
    """
    arrays: dict[str, Any] = {
        "pack_index": report.packing.pack_index,
        "rank_in_pack": report.packing.rank_in_pack,
        "weight": report.items.weight,
    }
    if report.items.physical_to_logical is not None:
        arrays["physical_to_logical"] = report.items.physical_to_logical
    archive = io.BytesIO()
    np.savez_compressed(archive, **arrays)
    write_whole(output, archive.getvalue())


def as_json(report: PackReport) -> dict[str, Any]:
    """The report in plain types; figures of layers without load are null."""
    packing, items = report.packing, report.items
    num_layers, num_items = items.weight.shape
    return {
        "num_layers": num_layers,
        "num_layers_without_load": int(num_layers - report.live.sum()),
        "num_experts": items.num_experts,
        "num_items": num_items,
        "num_packs": report.num_packs,
        "num_windows_summed": items.num_windows,
        "balancedness_before": summary(report.before),
        "balancedness_after": summary(packing.balancedness),
        "gap": summary(packing.gap, low_is_bad=False),
        "worst_layers": worst_layers(packing.balancedness).tolist(),
        "per_layer": {
            "balancedness_before": plain(report.before),
            "balancedness_after": plain(packing.balancedness),
            "gap": plain(packing.gap),
            "winning_restart": packing.winning_restart.tolist(),
        },
        **call_as_json(packing.execution, packing.algorithm, report.total_seconds),
    }
