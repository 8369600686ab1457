"""SGLang's own recorder and simulator without a server: what they dump, and what they read of it.

Run: python -m tests.sglang_recorder FOLDER, which has `passes.npz` with what every rank counted in every pass; it gets
dumps of the modes per_pass and stat, and `expected.npz` with what the simulator makes of the former.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.engine_packages import SGLANG, engine_code

PACKAGES = ("sglang", "sglang.srt", "sglang.srt.eplb")
"""Their own code is not run: it imports all of SGLang."""
OTHERS = {
    "einops": [],
    "tqdm": ["tqdm"],
    "sglang.srt.environ": ["envs"],
    "sglang.srt.model_executor": [],
    "sglang.srt.model_executor.forward_batch_info": ["ForwardBatch", "ForwardMode"],
    "sglang.srt.observability": [],
    "sglang.srt.observability.metrics_collector": [
        "STAT_LOGGER_ROLE_EXPERT_DISPATCH",
        "ExpertDispatchCollector",
        "resolve_collector_class",
    ],
    "sglang.srt.runtime_context": [
        "get_device",
        "get_exec",
        "get_platform",
        "get_schedule",
        "logs_expert_balancedness_to_server_log",
        "reports_expert_balancedness",
    ],
    "sglang.srt.utils": ["Withable", "get_device", "get_int_env_var"],
}
"""What the recorder imports besides, by name: configuration and metrics."""


def import_sglang() -> tuple[Any, Any]:
    """The modules of the recorder and of the simulator's reader; all else is stood in for."""
    code = engine_code(SGLANG)
    for name in PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = [str(code.joinpath(*name.split(".")))]
        sys.modules[name] = package
    for name, members in OTHERS.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(dict.fromkeys(members))
    vars(sys.modules["tqdm"])["tqdm"] = iter  # a progress bar
    names = "sglang.srt.eplb.expert_distribution", "sglang.srt.eplb.eplb_simulator.reader"
    recorder, reader = map(importlib.import_module, names)
    return recorder, reader


def configure(recorder: Any, folder: Path, ring: int) -> None:
    """What the command line would have said."""
    told = types.SimpleNamespace(get=lambda: str(folder))
    moe = types.SimpleNamespace(expert_distribution_recorder_buffer_size=ring)
    recorder.envs = types.SimpleNamespace(SGLANG_EXPERT_DISTRIBUTION_RECORDER_DIR=told)
    recorder.get_exec = lambda: types.SimpleNamespace(moe=moe)
    recorder.get_device_namespace = lambda: types.SimpleNamespace(device="cpu")
    recorder.reports_expert_balancedness = lambda: False


def record(accumulator: Any, counts: torch.Tensor) -> None:
    """Passes one after the other, then a dump, as the recorder does it."""
    for number, count in enumerate(counts):
        accumulator.append(number, "primary", {"global_physical_count": count}, {})
    accumulator.dump("file")
    accumulator.reset()


def main(folder: Path) -> None:
    """Record, dump, read."""
    recorder, reader = import_sglang()
    with np.load(folder / "passes.npz") as given:
        counts, slots = torch.from_numpy(given["counts"]), torch.from_numpy(given["map"])
        num_experts, ring = int(given["num_experts"]), int(given["ring"])
    num_layers, num_slots = slots.shape
    metadata = types.SimpleNamespace(
        physical_to_logical_map=slots,
        num_layers=num_layers,
        num_physical_experts=num_slots,
        num_logical_experts=num_experts,
    )

    configure(recorder, folder / "per_pass", ring)
    for rank, own in enumerate(counts):
        record(recorder._DetailAccumulator(metadata, rank), own)
    read = reader.read_mode_per_pass(folder / "per_pass")
    passes, last_map = read["global_physical_count_of_forward_pass"], read["last_physical_to_logical_map"]
    to_logical = reader.convert_global_physical_count_to_logical_count
    np.savez(folder / "expected.npz", per_pass=to_logical(passes, num_layers, num_experts, last_map))

    configure(recorder, folder / "stat", ring)
    torch.distributed.all_reduce = lambda *_, **__: None  # there is one rank
    accumulator = recorder._StatAccumulator(metadata, 0)
    accumulator._first_dump = False  # at which it would empty a GPU's cache
    half = counts.shape[1] // 2
    record(accumulator, counts[0, :half])
    record(accumulator, counts[0, half:])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
