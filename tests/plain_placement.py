"""What a placement is worth, and every step from it, in plain Python: the kernels are held to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

Load = Sequence[Sequence[float]]  # [T][E]
Slots = Sequence[int]


def gpu_loads(load: Sequence[float], slots: Slots, num_gpus: int) -> list[float]:
    """What each GPU carries in a window."""
    count, size = Counter(slots), len(slots) // num_gpus
    shares = [load[e] / count[e] if e >= 0 else 0.0 for e in slots]
    return [sum(shares[gpu * size : (gpu + 1) * size]) for gpu in range(num_gpus)]


def balancedness(load: Load, slots: Slots, speed: Sequence[float]) -> float:
    """Mean over the windows with load; GPUs of speed 0 are inactive."""
    values = []
    for window in load:
        carried = gpu_loads(window, slots, len(speed))
        if any(carried):
            highest = max(c / s for c, s in zip(carried, speed, strict=True) if s > 0)
            values.append(sum(carried) / sum(speed) / highest)
    return sum(values) / len(values) if values else 0.0


def moves(before: Slots, after: Slots, num_gpus: int) -> int:
    """Copies held after and not before."""
    size = len(before) // num_gpus
    total = 0
    for start in range(0, len(before), size):
        had, has = (Counter(e for e in slots[start : start + size] if e >= 0) for slots in (before, after))
        total += (has - had).total()
    return total


def duplicates(slots: Slots, num_gpus: int) -> int:
    """Copies beyond the first of an expert on a GPU."""
    size = len(slots) // num_gpus
    parts = (slots[start : start + size] for start in range(0, len(slots), size))
    return sum(n - 1 for part in parts for e, n in Counter(part).items() if e >= 0)


def steps_from(slots: Slots, num_gpus: int, top: int) -> Iterator[tuple[str, int, int, list[int]]]:
    """Every step from a GPU without new duplicates: (kind, slot, other slot or expert, the slots after it)."""
    size, before = len(slots) // num_gpus, duplicates(slots, num_gpus)
    count = Counter(slots)
    own = range(top * size, (top + 1) * size)
    for slot in own:
        for other in range(len(slots)):
            if other not in own and slots[slot] != slots[other]:
                after = list(slots)
                after[slot], after[other] = after[other], after[slot]
                if duplicates(after, num_gpus) <= before:
                    yield "swap", slot, other, after
    for expert in {slots[slot] for slot in own}:
        for place in range(len(slots)):
            if count[slots[place]] > 1 and slots[place] != expert:
                after = list(slots)
                after[place] = expert
                if duplicates(after, num_gpus) <= before:
                    yield "replica", place, expert, after
