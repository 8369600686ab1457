"""How a restart is refined: the rules that every solver follows to the letter.

**Words.** A row's items in exact order (descending weight, ties by item) are its *members* 0..N-1. A pack holds its
members in ascending order, so a position in a pack is a rank in it. Packs are looked at by (load, pack), lightest
first. The heaviest pack (ties: the lowest one) has load H.

**A swap.** The heaviest pack gives a net weight f to a partner of load P; the larger of the two then is
`V = max(H - f, P + f)`. Only V < H counts. A *single* swaps one member against one; a *pair* two against two, both
pairs among the last PAIR_MEMBERS positions of their packs. Pairs are numbered (0, 1), (0, 2), ..., (1, 2), ... over
those positions and stand in a pack by (descending sum, number); that place is their position.

**Which swap.** Of each partner the lexicographic minimum of (V, position given, position received). Of the partners the
lexicographic minimum of (max(V, target), place among the packs): the lightest partner that reaches the target, else
the smallest V.

**Steps.** A single with one of the SINGLE_PARTNERS lightest packs; if there is none, a pair with one of the
PAIR_PARTNERS lightest; if there is none, a single with any pack; if there is none, the restart ends. It also ends when
its max load is at most the target, and after `max_steps` swaps.

**The winner.** The lowest restart whose max load is at most the target, else the one with the smallest max load, ties
to the lowest. So whether a solver stops early, or runs all restarts at once, cannot be seen in its answer.

The numbers below were chosen by measurement: see docs/benchmarks.md.
"""

from __future__ import annotations

SINGLE_PARTNERS = 4
PAIR_PARTNERS = 16
PAIR_MEMBERS = 8
"""8 members make 28 pairs, which fit the 32 lanes of a GPU's warp."""


def max_steps(num_packs: int) -> int:
    """The most swaps that a restart does."""
    return 4 * num_packs + 64
