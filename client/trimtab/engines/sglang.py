"""SGLang: in the place of the EPLB algorithm that is configured, by SGLang's own hooks for plug-ins.

`TRIMTAB_SGLANG_TARGET=HOST:PORT` switches it on, in every process of the engine, by the entry point `trimtab` of the
group `sglang.srt.plugins`. SGLang's algorithms are a closed list to which none can be added; the configured one stays
behind trimtab, and says whether groups stay on their nodes. SGLang calls it on every rank with the same load, on the
thread of the forward pass, after a collective of the whole world; nothing else uses the world's CPU group then.

SGLang's own algorithm answers alone at the start, where a process outside the group must come to the same layout, and
where it is `elasticity_aware`: ranks may be dead then, and after a change of size one rank is asked for all.
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

ALGORITHM = "sglang.srt.eplb.eplb_algorithms.rebalance_experts"
_ARGUMENTS = (
    "tokens_per_expert",
    "num_physical_experts",
    "num_local_physical_experts",
    "num_groups",
    "num_nodes",
    "algorithm",
)


def register() -> None:
    """Put trimtab around SGLang's algorithms, where the environment says so; SGLang calls it at its start."""
    switch_on("SGLang", logging.getLogger("sglang.trimtab"), _put_in_place)


def _put_in_place(balancer: Balancer) -> bool:
    module, _, name = ALGORITHM.rpartition(".")
    try:
        own = getattr(importlib.import_module(module), name)
        hooks = importlib.import_module("sglang.srt.plugins.hook_registry")
        location = importlib.import_module("sglang.srt.eplb.expert_location")
        get_group = importlib.import_module("sglang.srt.distributed.parallel_state").get_world_group
        in_force = location.get_global_expert_location_metadata
        around = hooks.HookType.AROUND
    except (ImportError, AttributeError) as error:
        raise UnknownEngineError(f"has not the EPLB algorithms and the hooks that 0.5.23 has: {error}") from None
    check_arguments(own, _ARGUMENTS)
    hooks.HookRegistry.register(ALGORITHM, trimtab_algorithm(balancer, get_group, in_force), around)
    return True


def trimtab_algorithm(
    balancer: Balancer, get_group: Callable[[], Coordinator], in_force: Callable[[], Any]
) -> Callable[..., Any]:
    """A hook around SGLang's algorithms that asks the service, with the configured one behind it.

    Args:
        balancer: asks the service; readable as `balancer` of the hook, its counts as `balancer.outcomes.counts`.
        get_group: gives the coordinator of all ranks.
        in_force: gives SGLang's metadata of where experts are; None before there are any.
    """

    def rebalance_experts(  # noqa: PLR0917  # SGLang's own order
        own: Callable[..., Any],
        tokens_per_expert: Any,
        num_physical_experts: int,
        num_local_physical_experts: int,
        num_groups: int | None,
        num_nodes: int,
        algorithm: Any,
    ) -> Any:
        metadata = in_force()
        placed = None
        if metadata is not None and not algorithm.name.startswith("elasticity_aware"):
            question = Question(
                load=tokens_per_expert.sum(dim=0),
                num_replicas=num_physical_experts,
                num_gpus=num_physical_experts // num_local_physical_experts,
                num_nodes=num_nodes,
                num_groups=num_groups or 1,
                previous=metadata.physical_to_logical_map.cpu().numpy(),
                hierarchy="automatic" if algorithm.name.endswith("_hierarchical") else "global",
            )
            placed = balancer.placement(question, get_group)
        if placed is None:
            local = num_local_physical_experts
            return own(tokens_per_expert, num_physical_experts, local, num_groups, num_nodes, algorithm)
        return three_maps(placed, tokens_per_expert.shape[-1])

    rebalance_experts.balancer = balancer  # type: ignore[attr-defined]
    return rebalance_experts
