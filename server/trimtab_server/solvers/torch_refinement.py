"""Refinement in vectorized torch, all rows and restarts at once: the rules of `solvers.rules`, any device.

A *state* is one restart of one row, S of them. Members, packs, places and positions are as in the rules; loads and
weights are int64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trimtab_server.solvers.rules import PAIR_MEMBERS, PAIR_PARTNERS, SINGLE_PARTNERS, max_steps

_LOW = 0xFFFF  # the low 16 bits of a key hold a pack
_FAR = 1 << 60  # more than any load


class Swap(NamedTuple):
    """The best swap of every state: V (at least the heaviest load where none helps), partner, positions [S] each."""

    value: Tensor
    partner: Tensor
    given: Tensor
    received: Tensor


class Packs(NamedTuple):
    """The states that are still being refined."""

    held: Tensor  # [S, packs, size]: the weights of each pack's members
    order: Tensor  # [S, packs]: load << 16 | pack, ascending
    top: Tensor  # [S]: the heaviest pack, ties to the lowest
    heavy: Tensor  # [S]: its load
    target: Tensor  # [S]

    def rows(self, rows: Tensor) -> Packs:
        """Some of the states."""
        return Packs(*(field[rows] for field in self))

    def near(self, count: int) -> tuple[Tensor, Tensor]:
        """The lightest packs, all but one at the most: [S, c] loads and packs."""
        order = self.order[:, : min(count, self.order.shape[1] - 1)]
        return order >> 16, order & _LOW


def refine(weight: Tensor, member: Tensor, target: Tensor) -> None:
    """Swap in place until no state can be helped.

    Args:
        weight: [S, items], weights of the members.
        member: [S, packs, size], members of each pack, ascending; is changed.
        target: [S], a max load that is good enough.
    """
    _, num_packs, size = member.shape
    active = torch.arange(len(member), device=member.device)
    for _ in range(max_steps(num_packs) if num_packs > 1 else 0):
        packs = _look(weight[active], member[active], target[active])
        unfinished = packs.heavy > packs.target
        active, packs = active[unfinished], packs.rows(unfinished)
        if not active.numel():
            return
        swap = _best_single(packs, SINGLE_PARTNERS)
        given, received = swap.given[:, None].repeat(1, 2), swap.received[:, None].repeat(1, 2)
        stuck = torch.nonzero(swap.value >= packs.heavy)[:, 0]
        if stuck.numel() and size > 1:
            pair, gives, takes = _best_pair(packs.rows(stuck))
            swap.value[stuck], swap.partner[stuck], given[stuck], received[stuck] = (
                pair.value,
                pair.partner,
                gives,
                takes,
            )
            stuck = stuck[pair.value >= packs.heavy[stuck]]
        if stuck.numel() and num_packs - 1 > SINGLE_PARTNERS:
            last = _best_single(packs.rows(stuck), num_packs)
            swap.value[stuck], swap.partner[stuck] = last.value, last.partner
            given[stuck], received[stuck] = last.given[:, None], last.received[:, None]
        helped = swap.value < packs.heavy
        active = active[helped]
        _exchange(member, active, packs.top[helped], swap.partner[helped], given[helped], received[helped])


def _look(weight: Tensor, member: Tensor, target: Tensor) -> Packs:
    num_packs = member.shape[1]
    held = weight.gather(1, member.flatten(1)).view(member.shape)
    load = held.sum(2)
    pack = torch.arange(num_packs, device=member.device)
    top = (load << 16 | (_LOW - pack)).argmax(1)  # unique keys: the heaviest, ties to the lowest pack
    return Packs(held, (load << 16 | pack).sort(1).values, top, load.amax(1), target)


def _best_single(packs: Packs, partners: int) -> Swap:
    states = torch.arange(len(packs.held), device=packs.held.device)
    light, partner = packs.near(partners)
    received = packs.held[states[:, None], partner]
    return _choose(packs, light, partner, packs.held[states, packs.top], received)


def _best_pair(packs: Packs) -> tuple[Swap, Tensor, Tensor]:
    """The best pair of every state, and the two positions given and received [S, 2] that it stands for."""
    states = torch.arange(len(packs.held), device=packs.held.device)
    light, partner = packs.near(PAIR_PARTNERS)
    given, gives = _pairs(packs.held[states, packs.top])
    received, takes = _pairs(packs.held[states[:, None], partner])
    swap = _choose(packs, light, partner, given, received)
    place = (partner == swap.partner[:, None]).long().argmax(1)
    return swap, gives[states, swap.given], takes[states, place, swap.received]


def _pairs(held: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of packs [..., size]: sums [..., pairs], descending, ties by number, and positions [..., pairs, 2]."""
    size = held.shape[-1]
    first = max(0, size - PAIR_MEMBERS)
    positions = torch.triu_indices(size - first, size - first, 1, device=held.device) + first
    number = torch.arange(positions.shape[1], device=held.device)
    sums = held[..., positions[0]] + held[..., positions[1]]
    key = (sums << 8 | (255 - number)).sort(-1, descending=True).values
    return key >> 8, positions.t()[255 - (key & 255)]


def _choose(packs: Packs, light: Tensor, partner: Tensor, given: Tensor, received: Tensor) -> Swap:
    """The swap by the rules, of given [S, n] against received [S, c, n], both descending."""
    value, i, j = _best_between(given, received, packs.heavy[:, None], light)
    # numpy and torch alike take the first of equals: the lightest partner
    place = torch.maximum(value, packs.target[:, None]).argmin(1, keepdim=True)
    return Swap(*(field.gather(1, place)[:, 0] for field in (value, partner, i, j)))


def _best_between(given: Tensor, received: Tensor, heavy: Tensor, light: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The lexicographic minimum of (V, i, j) for each partner: V, i, j [S, c].

    For each position given, V is least beside the point where what is received crosses the target of the swap: at the
    first position past it, or at the first of the run of equals before it. So 2 n candidates hold the answer.
    """
    num_partners, n = received.shape[1:]
    ascending = (-2 * received).contiguous()
    aim = ((heavy - light)[..., None] - 2 * given[:, None]).expand(-1, num_partners, -1).contiguous()
    after = torch.searchsorted(ascending, aim)
    before = torch.searchsorted(ascending, ascending.gather(2, (after - 1).clamp(min=0)))
    j = torch.stack((before, after.clamp(max=n - 1)), 3)
    absent = torch.stack((after == 0, after == n), 3)
    excess = (aim[..., None] - ascending.gather(2, j.flatten(2)).view(j.shape)).abs().masked_fill(absent, _FAR)
    least, first = excess.flatten(2).min(2).values, excess.flatten(2).argmin(2)
    return (heavy + light + least) >> 1, first // 2, j.flatten(2).gather(2, first[..., None])[..., 0]


def _exchange(member: Tensor, state: Tensor, top: Tensor, partner: Tensor, given: Tensor, received: Tensor) -> None:
    """Swap positions given [S, 2] of `top` with those received [S, 2] of `partner`; a single is twice the same."""
    mine, theirs = member[state, top], member[state, partner]
    leaving, coming = mine.gather(1, given), theirs.gather(1, received)
    member[state, top] = mine.scatter(1, given, coming).sort(1).values
    member[state, partner] = theirs.scatter(1, received, leaving).sort(1).values
