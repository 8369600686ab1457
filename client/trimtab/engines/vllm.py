"""vLLM: a policy in the place of its default one, by the entry point `trimtab` of the group `vllm.general_plugins`.

`TRIMTAB_VLLM_TARGET=HOST:PORT` switches it on, in every process of the engine. vLLM calls its policy on every rank with
the same load and map: in asynchronous mode on the thread that moves the experts, else on the main thread. At that point
the thread itself uses the CPU group of the EPLB group and no other thread does, so that the plug-in may use it too.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

from trimtab.engines.balancer import Balancer
from trimtab.engines.plugin import UnknownEngineError, check_arguments, switch_on, three_maps
from trimtab.engines.question import Question
from trimtab.engines.ranks import Coordinator

POLICY = "default"
"""The only one that vLLM allows in asynchronous mode."""
_ARGUMENTS = ("weight", "num_replicas", "num_groups", "num_nodes", "num_ranks", "old_global_expert_indices")


def register() -> None:
    """Put trimtab in the place of vLLM's default policy, where the environment says so; vLLM calls it at its start."""
    switch_on("vLLM", logging.getLogger("vllm.trimtab"), _put_in_place)  # vLLM shows what is logged below its own name


def _put_in_place(balancer: Balancer) -> bool:
    try:
        policies = importlib.import_module("vllm.distributed.eplb.policy").EPLB_POLICIES
        own = policies[POLICY]
        get_group = importlib.import_module("vllm.distributed.parallel_state").get_eplb_group
    except (ImportError, AttributeError, KeyError) as error:
        raise UnknownEngineError(f"has not the EPLB policies and the EPLB group that 0.17 has: {error}") from None
    if hasattr(own, "balancer"):
        return False
    check_arguments(own.rebalance_experts, _ARGUMENTS)
    policies[POLICY] = trimtab_policy(own, balancer, get_group)
    return True


def trimtab_policy(own: Any, balancer: Balancer, get_group: Callable[[], Coordinator]) -> Any:
    """A policy that asks the service, with vLLM's own one behind it.

    Args:
        own: vLLM's policy; its answer shows whether this vLLM takes three maps, as before 0.19, or one.
        balancer: asks the service; readable as `balancer` of the policy, its counts as `balancer.outcomes.counts`.
        get_group: gives the coordinator of vLLM's EPLB group.
    """
    import torch  # noqa: PLC0415  # vLLM's own, in vLLM's process

    takes_three_maps = isinstance(own.rebalance_experts(torch.ones(1, 1), 1, 1, 1, 1), tuple)

    def rebalance_experts(  # noqa: PLR0917  # vLLM gives them by position
        _cls: type,
        weight: Any,
        num_replicas: int,
        num_groups: int,
        num_nodes: int,
        num_ranks: int,
        old_global_expert_indices: Any = None,
    ) -> Any:
        previous = None if old_global_expert_indices is None else old_global_expert_indices.cpu().numpy()
        question = Question(weight, num_replicas, num_ranks, num_nodes, num_groups, previous)
        placed = balancer.placement(question, get_group)
        if placed is None:
            return own.rebalance_experts(
                weight, num_replicas, num_groups, num_nodes, num_ranks, old_global_expert_indices
            )
        if takes_three_maps:
            return tuple(each.to(weight.device) for each in three_maps(placed, weight.shape[1]))
        return torch.from_numpy(placed).to(weight.device)

    content = {"rebalance_experts": classmethod(rebalance_experts), "balancer": balancer, "__module__": __name__}
    return type("TrimtabEplbPolicy", (own,), content)
