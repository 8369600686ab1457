"""SGLang's own code in ranks without GPUs: its plug-ins and hooks, its group of all ranks, its metadata of experts.

Imported by the process that the ranks are forked from; the functions run in the ranks. Stood in for: packages that are
absent, and the configuration that SGLang would have read of its command and its model.
"""

from __future__ import annotations

import importlib
import logging
import os
import types
from typing import Any

import numpy as np
import torch

from tests.engine_packages import MSGSPEC, SGLANG, engine_code
from tests.engine_standins import stand_in
from trimtab.engines.sglang import ALGORITHM

COMPILED = "sglang.srt.distributed.device_communicators.custom_all_reduce_v2"
stand_in(engine_code(SGLANG), engine_code(MSGSPEC, "*"), without=[COMPILED])

location: Any = importlib.import_module("sglang.srt.eplb.expert_location")
context: Any = importlib.import_module("sglang.srt.runtime_context")
algorithms: Any = importlib.import_module("sglang.srt.eplb.eplb_algorithms")
elastic: Any = importlib.import_module("sglang.srt.elastic_ep.elastic_ep")
parallel_state: Any = importlib.import_module("sglang.srt.distributed.parallel_state")
plugins: Any = importlib.import_module("sglang.srt.plugins")
OWN = algorithms.rebalance_experts
"""What SGLang calls, as it is without plug-ins."""

_lines: list[str] = []


class _Kept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _lines.append(record.getMessage())


def set_up(rank: int, size: int, port: int, environment: dict[str, str]) -> None:
    """Make SGLang's group of all ranks, and let SGLang load its plug-ins."""
    os.environ.update(environment)
    logging.basicConfig(level=logging.INFO, force=True)  # as SGLang does
    logging.getLogger().addHandler(_Kept())
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    world = parallel_state.init_world_group(list(range(size)), rank, "gloo")
    context.get_parallel().override_permanently(world_group=world)
    plugins.load_plugins()


def log() -> list[str]:
    """What was logged of trimtab so far."""
    return [line for line in _lines if line.startswith("trimtab")]


def counts() -> dict[str, int]:
    """What became of the rebalances since this was last asked, as the plug-in counts them."""
    counted = _hook().balancer.outcomes.counts
    since = dict(counted)
    counted.clear()
    return since


def _hook() -> Any:
    ((_, hook, _),) = importlib.import_module("sglang.srt.plugins.hook_registry").HookRegistry._hooks[ALGORITHM]
    return hook


def is_own() -> bool:
    """Whether SGLang would still call its own algorithms alone."""
    return algorithms.rebalance_experts is OWN


def next_collective() -> int:
    """The sum of 1 over the ranks, by a collective on the same group."""
    flag = torch.tensor([1], dtype=torch.int32)
    torch.distributed.all_reduce(flag, group=parallel_state.get_world_group().cpu_group)
    return int(flag.item())


def configure(  # noqa: PLR0917  # by position, from another process
    num_layers: int, num_experts: int, num_slots: int, ep_size: int, algorithm: str, num_nodes: int
) -> None:
    """What SGLang would know of its model and of its command; nothing is placed yet."""
    model = location.ModelConfigForExpertLocation(num_layers, num_experts, num_groups=num_nodes)
    location.ModelConfigForExpertLocation.from_model_config = staticmethod(lambda _config: model)
    moe = types.SimpleNamespace(
        ep_num_redundant_experts=num_slots - num_experts,
        ep_join_mode=None,
        ep_dispatch_algorithm=None,
        eplb_algorithm=algorithm,
        moe_a2a_backend="none",
    )
    location.get_exec = lambda: types.SimpleNamespace(moe=moe)
    location.get_device = lambda: types.SimpleNamespace(device="cpu")
    location.get_parallel = lambda: types.SimpleNamespace(
        ep_size=ep_size, nnodes=num_nodes, elastic_ep_initial_size=None
    )
    elastic.ElasticEPStateManager.healthy_rank_state = staticmethod(lambda: torch.ones(ep_size, dtype=torch.int32))
    location.set_global_expert_location_metadata(None, allow_overwrite=True)


def hold(placement: np.ndarray) -> None:
    """Have this placement in force."""
    metadata = location.ExpertLocationMetadata.init_by_mapping(None, torch.from_numpy(placement), moe_ep_rank=0)
    location.set_global_expert_location_metadata(metadata, allow_overwrite=True)


def place(load: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three maps of the metadata that SGLang makes of a load [steps, L, E]."""
    made = location.ExpertLocationMetadata.init_by_eplb(None, torch.from_numpy(load))
    maps = made.physical_to_logical_map, made.logical_to_all_physical_map, made.logical_to_all_physical_map_num_valid
    return tuple(each.numpy() for each in maps)


def place_by_own(load: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same without the plug-in."""
    hooked, algorithms.rebalance_experts = algorithms.rebalance_experts, OWN
    try:
        return place(load)
    finally:
        algorithms.rebalance_experts = hooked


def join_within(seconds: float) -> None:
    """How long ranks wait for others to have the plug-in."""
    vars(importlib.import_module("trimtab.engines.ranks"))["JOIN_SECONDS"] = seconds
