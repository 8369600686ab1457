"""What chaos does to a fleet: each event is a function of the fleet and some dice, and leaves all members serving."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from tests.harness.fleet import Fleet

Do = Callable[[Fleet, random.Random], Awaitable[None]]


class Event(NamedTuple):
    """Something that happens, and its name in the table."""

    name: str
    do: Do


class EventError(Exception):
    """A server did not take an event as it should."""


async def kill_one(fleet: Fleet, dice: random.Random) -> None:
    """`kill -9` of one, which then starts again on its port."""
    member = dice.choice(fleet.members)
    await member.kill()
    await member.start()


async def restart_each(fleet: Fleet, dice: random.Random) -> None:
    """SIGTERM for one after the other, each started again before the next, as a deployment does."""
    for member in dice.sample(fleet.members, len(fleet.members)):
        code = await member.stop()
        if code != 0:
            raise EventError(f"a server that was asked to end ended with {code}")
        await member.start()


async def freeze_one(fleet: Fleet, dice: random.Random) -> None:
    """One stands still for a second or two, its connections open."""
    await dice.choice(fleet.members).freeze(dice.uniform(1.0, 2.0))


async def renew_certificate(fleet: Fleet, _dice: random.Random) -> None:
    """Another certificate of the same authority, which every new connection is shown."""
    await fleet.identity.renew_certificate(fleet.ports)


async def renew_token(fleet: Fleet, _dice: random.Random) -> None:
    """Another token for the client, and the old one is no longer good."""
    await fleet.identity.renew_token()


KILL = Event("kill -9 and start", kill_one)
RESTART = Event("rolling restart of all, by SIGTERM", restart_each)
FREEZE = Event("SIGSTOP for 1 to 2 s", freeze_one)
CERTIFICATE = Event("another certificate", renew_certificate)
TOKEN = Event("another token", renew_token)


def plan(counts: Mapping[Event, int], dice: random.Random) -> list[Event]:
    """So many of each, shuffled."""
    events = [event for event, count in counts.items() for _ in range(count)]
    dice.shuffle(events)
    return events
