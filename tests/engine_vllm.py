"""vLLM's own code in ranks without GPUs: its groups, its plug-ins, its EPLB state with small experts.

Imported by the process that the ranks are forked from; the functions run in the ranks. Stood in for: packages that are
absent, vLLM's changes to torch's compiler, what needs GPUs, and the model, whose experts' weights are their numbers.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import threading
import time
import types
from typing import Any

import numpy as np
import torch

from tests.engine_packages import MSGSPEC, VLLM, engine_code
from tests.engine_standins import AnyEvent, stand_in

COMPILER, FOR_GPUS = "vllm.env_override", "vllm.distributed.device_communicators.cuda_communicator"
stand_in(engine_code(VLLM), engine_code(MSGSPEC, "*"), without=[COMPILER, FOR_GPUS])
torch.Event = AnyEvent  # type: ignore[assignment, misc]
torch.accelerator.current_stream = lambda *_: STREAM

STREAM: Any = types.SimpleNamespace(synchronize=lambda: None)
state_module: Any = importlib.import_module("vllm.distributed.eplb.eplb_state")
worker_module: Any = importlib.import_module("vllm.distributed.eplb.async_worker")
communicator_module: Any = importlib.import_module("vllm.distributed.eplb.eplb_communicator")
parallel_state: Any = importlib.import_module("vllm.distributed.parallel_state")
policies: dict[str, Any] = importlib.import_module("vllm.distributed.eplb.policy").EPLB_POLICIES
for module in (state_module, communicator_module):
    module.PIN_MEMORY = False
for module in (worker_module, communicator_module):
    module.device_stream = lambda _stream: contextlib.nullcontext()

OWN = policies["default"]
"""vLLM's own policy."""
LAYERS, EXPERTS, SLOTS_A_RANK = 3, 8, 5
"""Of the model whose experts are moved."""

_lines: list[str] = []


class _Kept(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _lines.append(record.getMessage())


def set_up(rank: int, size: int, port: int, environment: dict[str, str]) -> None:
    """Make vLLM's groups, and let vLLM load its plug-ins."""
    os.environ.update(environment, VLLM_LOGGING_STREAM="ext://sys.stderr")
    importlib.import_module("vllm.logger")._configure_vllm_root_logger()
    logging.getLogger("vllm").addHandler(_Kept())
    parallel_state.init_distributed_environment(size, rank, f"tcp://127.0.0.1:{port}", rank, "gloo")
    for name in ("_EP", "_EPLB"):
        group = parallel_state.init_model_parallel_group([list(range(size))], rank, "gloo", group_name=name)
        setattr(parallel_state, name, group)
    parallel_state._NODE_COUNT = 1
    importlib.import_module("vllm.plugins").load_general_plugins()


def join_within(seconds: float) -> None:
    """How long ranks wait for others to have the plug-in."""
    vars(importlib.import_module("trimtab.engines.ranks"))["JOIN_SECONDS"] = seconds


def log() -> list[str]:
    """What vLLM's logger was given of trimtab so far."""
    return [line for line in _lines if line.startswith("trimtab")]


def is_own() -> bool:
    """Whether vLLM would still use its own policy."""
    return policies["default"] is OWN


def counts() -> dict[str, int]:
    """What became of the rebalances since this was last asked, as the plug-in counts them."""
    counted = policies["default"].balancer.outcomes.counts
    since = dict(counted)
    counted.clear()
    return since


def place(load: np.ndarray, num_replicas: int, num_ranks: int, previous: np.ndarray | None) -> np.ndarray:
    """What vLLM's policy of the name "default" answers."""
    return _place(policies["default"], load, num_replicas, num_ranks, previous)


def place_by_own(load: np.ndarray, num_replicas: int, num_ranks: int, previous: np.ndarray | None) -> np.ndarray:
    """What vLLM's own policy answers."""
    return _place(OWN, load, num_replicas, num_ranks, previous)


def _place(policy: Any, load: np.ndarray, num_replicas: int, num_ranks: int, previous: np.ndarray | None) -> np.ndarray:
    held = None if previous is None else torch.from_numpy(previous)
    placed = policy.rebalance_experts(torch.from_numpy(load), num_replicas, 1, 1, num_ranks, held)
    assert placed.dtype == torch.int64
    return np.asarray(placed.numpy())


def next_collective() -> int:
    """The sum of 1 over the ranks, by the collective that vLLM's own thread makes next on this group."""
    flag = torch.tensor([1], dtype=torch.int32)
    torch.distributed.all_reduce(flag, group=parallel_state.get_eplb_group().cpu_group)
    return int(flag.item())


def regroup(port: int, size: int) -> None:
    """Make the EPLB group anew, of the first ranks, as elastic expert parallelism does: without torch's world."""
    rank = torch.distributed.get_rank()
    make = importlib.import_module("vllm.distributed.utils").stateless_init_torch_distributed_process_group
    group = make("127.0.0.1", port, rank, size, "gloo", group_name=f"eplb-{port}")
    parallel_state._EPLB = types.SimpleNamespace(rank_in_group=rank, world_size=size, cpu_group=group)


class _Model:
    """A model of experts whose weights are their numbers, and of which this rank has its slots."""

    num_moe_layers, num_expert_groups, num_logical_experts, num_routed_experts = LAYERS, 1, EXPERTS, EXPERTS
    num_local_physical_experts = SLOTS_A_RANK
    moe_layers: tuple[Any, ...] = ()
    set_eplb_state = staticmethod(lambda *_: None)

    def __init__(self, rank: int, size: int) -> None:
        self.num_physical_experts = size * SLOTS_A_RANK
        self.num_redundant_experts = self.num_physical_experts - EXPERTS
        make = state_module.EplbState.build_initial_global_physical_to_logical_map
        mine = make(EXPERTS, self.num_redundant_experts)[rank * SLOTS_A_RANK : (rank + 1) * SLOTS_A_RANK]
        self.expert_weights = [[torch.tensor(mine).float()[:, None].repeat(1, 4)] for _ in range(LAYERS)]


def rearrange(use_async: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Let vLLM's EPLB state rearrange a model's experts; the map before and after, and the experts held in the end."""
    group = parallel_state.get_eplb_group()
    rank, size = group.rank_in_group, group.world_size
    model = _Model(rank, size)
    config = importlib.import_module("vllm.config.parallel").EPLBConfig(use_async=use_async, communicator="torch_gloo")
    parallel_config = types.SimpleNamespace(
        eplb_config=config, enable_elastic_ep=False, num_ubatches=0, enable_eplb=True, data_parallel_size=size
    )
    eplb = state_module.EplbState(parallel_config, torch.device("cpu"))
    eplb.add_model(model, types.SimpleNamespace(model="model", compute_hash=lambda: "model"))
    state = eplb.model_states["model"]
    eplb.rearrange(is_profile=True)  # as at vLLM's start, before there is any load
    before = state.physical_to_logical_map.clone()
    load = torch.randint(0, 1000, state.expert_load_window.shape[1:], generator=torch.Generator().manual_seed(rank))
    state.expert_load_window[0] = load
    if use_async:
        threading.Thread(target=worker_module.transfer_run_periodically, args=(eplb, STREAM), daemon=True).start()
    eplb.rearrange()
    while state.rebalanced:  # a layer a forward pass, as the worker gets done
        eplb.step()
        time.sleep(0.001)
    held = torch.stack([weights[0][:, 0] for weights in model.expert_weights]).long()
    return before.numpy(), state.physical_to_logical_map.numpy(), held.numpy()
