"""What a placement has to be, in plain Python: figures and rules of the contract, counted slot by slot."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from trimtab_server.solvers.placement import RebalanceProblem

Row = list[int]
CLOSE = 1e-9


@dataclass(frozen=True)
class Cluster:
    """What the rules need to know of a problem."""

    size: int
    speed: list[float]  # 0 where inactive
    experts_per_group: int
    num_nodes: int

    @property
    def num_gpus(self) -> int:
        """GPUs, dead ones too."""
        return len(self.speed)

    def gpus(self, row: Row) -> list[Row]:
        """The slots of each GPU."""
        return [row[gpu * self.size : (gpu + 1) * self.size] for gpu in range(self.num_gpus)]

    def live(self, row: Row) -> list[Row]:
        """The slots of each live GPU."""
        return [held for held, speed in zip(self.gpus(row), self.speed, strict=True) if speed > 0]

    def without_dead(self, row: Row) -> Row:
        """The placement with nothing on inactive GPUs."""
        return [
            expert if speed > 0 else -1
            for held, speed in zip(self.gpus(row), self.speed, strict=True)
            for expert in held
        ]


def alike(num_gpus: int, size: int) -> Cluster:
    """So many GPUs of so many slots, all of one speed, on one node."""
    return Cluster(size, [1.0] * num_gpus, 1, 1)


def cluster_of(problem: RebalanceProblem) -> Cluster:
    """That of a problem."""
    speed = [1.0] * problem.num_gpus if problem.gpu_speed is None else list(problem.gpu_speed)
    for gpu in problem.inactive_gpus:
        speed[gpu] = 0.0
    experts_per_group = problem.load.shape[2] // problem.num_groups
    return Cluster(problem.num_replicas // problem.num_gpus, speed, experts_per_group, problem.num_nodes)


def experts_of(slots: Row) -> Counter[int]:
    """How often each expert is there."""
    return Counter(expert for expert in slots if expert >= 0)


def gpu_loads(cluster: Cluster, row: Row, load: list[float]) -> list[float]:
    """What each GPU carries of one layer in one window; nothing where it is dead."""
    held = cluster.without_dead(row)
    count = experts_of(held)
    return [sum(load[expert] / count[expert] for expert in slots if expert >= 0) for slots in cluster.gpus(held)]


def balancedness(cluster: Cluster, row: Row, load: list[float]) -> float:
    """Of one layer in one window: what live GPUs carry, over their speed, over the highest level; nan without load."""
    carried = gpu_loads(cluster, row, load)
    level = max(load / speed for load, speed in zip(carried, cluster.speed, strict=True) if speed > 0)
    return sum(carried) / sum(cluster.speed) / level if level > 0 else math.nan


def mean_balancedness(cluster: Cluster, row: Row, windows: list[list[float]]) -> float:
    """The mean over the windows in which the layer has load."""
    known = [value for load in windows if not math.isnan(value := balancedness(cluster, row, load))]
    return sum(known) / len(known) if known else math.nan


def moves(cluster: Cluster, before: Row, after: Row) -> int:
    """Copies held after and not before."""
    pairs = zip(cluster.gpus(before), cluster.gpus(after), strict=True)
    return sum((experts_of(held) - experts_of(had)).total() for had, held in pairs)


def duplicates(cluster: Cluster, row: Row) -> int:
    """Copies beyond the first of an expert on its GPU."""
    return sum(count - 1 for held in cluster.gpus(row) for count in experts_of(held).values())


def keeps_slots(cluster: Cluster, before: Row, after: Row) -> bool:
    """Whether what stays on a GPU stays in its slot."""
    for had, held in zip(cluster.gpus(before), cluster.gpus(after), strict=True):
        staying = experts_of(had) & experts_of(held)
        in_place = experts_of([old for old, new in zip(had, held, strict=True) if old == new])
        if staying != in_place:
            return False
    return True


def keeps_groups(cluster: Cluster, row: Row) -> bool:
    """Whether each group is on one node alone."""
    gpus_per_node = cluster.num_gpus // cluster.num_nodes
    nodes: dict[int, set[int]] = {}
    for gpu, held in enumerate(cluster.gpus(row)):
        for expert in experts_of(held):
            nodes.setdefault(expert // cluster.experts_per_group, set()).add(gpu // gpus_per_node)
    return all(len(of_group) == 1 for of_group in nodes.values())


def steps_from(cluster: Cluster, slots: Row, top: int) -> Iterator[tuple[str, int, int, Row]]:
    """Every step from a GPU without new duplicates: (kind, slot, other slot or expert, the slots after it)."""
    before, count = duplicates(cluster, slots), Counter(slots)
    own = range(top * cluster.size, (top + 1) * cluster.size)
    for slot in own:
        for other in range(len(slots)):
            if other not in own and slots[slot] != slots[other]:
                after = list(slots)
                after[slot], after[other] = after[other], after[slot]
                if duplicates(cluster, after) <= before:
                    yield "swap", slot, other, after
    for expert in {slots[slot] for slot in own}:
        for place in range(len(slots)):
            if count[slots[place]] > 1 and slots[place] != expert:
                after = list(slots)
                after[place] = expert
                if duplicates(cluster, after) <= before:
                    yield "replica", place, expert, after
