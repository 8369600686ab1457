"""The plug-in for vLLM, in vLLM's own code: in real ranks, with real groups between them."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from typing import Any, Literal

import numpy as np
import pytest
import torch

from tests.command import NOBODY
from tests.engine_packages import VLLM_OF_THREE_MAPS, engine_code, why_not_here
from tests.engine_ranks import Host, Ranks, free_port, hosting
from tests.engine_services import GARBAGE, Answer, answering, answering_late, placed, round_robin
from trimtab import Client
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.engines import vllm

pytestmark = pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())

RANKS, SLOTS, EXPERTS, LAYERS = 3, 12, 10, 4
LOAD = np.random.default_rng(0).lognormal(0, 1, (LAYERS, EXPERTS)).astype(np.float32)
HELD = np.tile(np.arange(SLOTS) % EXPERTS, (LAYERS, 1))
QUESTION = (LOAD, SLOTS, RANKS, HELD)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """The process with vLLM's code in it."""
    with hosting("tests.engine_vllm") as process:
        yield process


class Behaviour:
    """How a service answers, until it is told otherwise."""

    answer: Answer = GARBAGE["nothing"]


@pytest.fixture(scope="module")
def behaving(host: Host) -> Iterator[tuple[Ranks, Behaviour]]:
    """Ranks that ask a service which behaves as the test says."""
    behaviour = Behaviour()
    with answering(lambda request: behaviour.answer(request)) as address:  # noqa: PLW0108  # the answer of the moment
        with host.ranks(*[on(address)] * RANKS) as ranks:
            yield ranks, behaviour


@pytest.fixture(scope="module")
def asking(host: Host, server: ServerProcess) -> Iterator[Ranks]:
    """Ranks that ask a real server, with a budget of moves."""
    with host.ranks(*[on(server.listen, MAX_MOVES="3")] * RANKS) as ranks:
        yield ranks


def on(target: str, **settings: str) -> dict[str, str]:
    """The variables that switch the plug-in on."""
    given = {"TARGET": target, "TIMEOUT": "20", **settings}
    return {f"TRIMTAB_VLLM_{name}": value for name, value in given.items()}


def same(placements: Sequence[np.ndarray]) -> np.ndarray:
    """The placement that all ranks have."""
    for placement in placements:
        np.testing.assert_array_equal(placement, placements[0])
    return placements[0]


def kept(ranks: Ranks, *reasons: str) -> None:
    """The ranks keep the placement in force, for one of these reasons, and vLLM's next collective finds them all."""
    np.testing.assert_array_equal(same(ranks.call("place", *QUESTION)), HELD)
    first, *others = ranks.call("counts")
    assert first in [{reason: 1} for reason in reasons]
    assert others == [{}] * (RANKS - 1)
    assert ranks.call("next_collective") == [RANKS] * RANKS


def test_vllm_finds_the_plug_in() -> None:
    """The installed distribution offers it in the group that vLLM looks into."""
    (found,) = entry_points(group="vllm.general_plugins", name="trimtab")
    assert found.load() is vllm.register


def test_it_does_nothing_unless_switched_on(host: Host) -> None:
    """Without a target vLLM keeps its own policy."""
    with host.ranks({}) as ranks:
        assert ranks.call("is_own") == [True]


def test_wrong_settings_leave_it_off(host: Host) -> None:
    """A value that can't be leaves vLLM as it is, and vLLM's log says which and why."""
    with host.ranks(on(NOBODY, MAX_MOVES="few")) as ranks:
        assert ranks.call("is_own") == [True]
        (lines,) = ranks.call("log")
    assert lines == [
        "trimtab stays off: TRIMTAB_VLLM_MAX_MOVES: must be a whole number, at least 0, got 'few'",
    ]


def test_every_rank_places_what_the_service_answers(asking: Ranks, server: ServerProcess) -> None:
    """All ranks get the service's placement, from what is in force and within the budget of moves."""
    with Client(server.listen) as client:
        wanted = client.rebalance(LOAD, num_gpus=RANKS, num_replicas=SLOTS, previous=HELD, max_moves=3)
    placed = same(asking.call("place", *QUESTION))
    np.testing.assert_array_equal(placed, wanted.physical_to_logical)
    assert (placed != HELD).any()
    assert asking.call("counts") == [{"placed": 1}, {}, {}]
    assert asking.call("next_collective") == [RANKS] * RANKS
    moves = f"trimtab: {wanted.moves.sum()} moves, balancedness {wanted.balancedness_before.mean():.4f} to "
    assert any(line.startswith(moves) for line in asking.call("log")[0])


def test_a_service_that_is_killed_and_comes_back(host: Host) -> None:
    """While it is away all ranks keep what they have, and when it is back they take its placements again."""
    with running_server() as first, host.ranks(*[on(first.listen)] * RANKS) as ranks:
        assert (same(ranks.call("place", *QUESTION)) != HELD).any()
        assert ranks.call("counts") == [{"placed": 1}, {}, {}]
        first.process.kill()
        first.process.wait()
        kept(ranks, "unavailable")
        with answering(lambda request: placed(round_robin(request)[:, ::-1]), first.listen):
            np.testing.assert_array_equal(same(ranks.call("place", *QUESTION)), HELD[:, ::-1])
        assert "trimtab answers again, after 1 rebalances without it" in ranks.call("log")[0]


def test_a_service_that_answers_too_late(host: Host) -> None:
    """After the deadline of the rank that asks, all ranks keep what they have."""
    with answering_late() as address, host.ranks(*[on(address, TIMEOUT="0.2")] * RANKS) as ranks:
        kept(ranks, "expired")


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_service_that_answers_garbage(behaving: tuple[Ranks, Behaviour], garbage: str) -> None:
    """What is no placement of the experts asked for is taken by no rank."""
    ranks, behaviour = behaving
    behaviour.answer = GARBAGE[garbage]
    kept(ranks, "wrong answer", "invalid")


def test_without_load_nothing_is_asked(asking: Ranks) -> None:
    """Before the first token, as in vLLM's profiling run, all keep what they have."""
    placed = same(asking.call("place", np.zeros_like(LOAD), SLOTS, RANKS, HELD))
    np.testing.assert_array_equal(placed, HELD)
    assert asking.call("counts") == [{"no load": 1}, {}, {}]


@pytest.mark.parametrize("missing", [{}, on(NOBODY, TIMEOUT="never")], ids=["switched off", "wrong settings"])
@pytest.mark.parametrize("rank", [0, 2])
def test_a_rank_without_it_turns_it_off_for_all(
    host: Host, server: ServerProcess, missing: dict[str, str], rank: int
) -> None:
    """Where one rank would use vLLM's own policy, all do; none waits for one that will not come."""
    environments = [on(server.listen)] * RANKS
    environments[rank] = missing
    with host.ranks(*environments) as ranks:
        ranks.call("join_within", 0.5)
        for _ in range(2):
            placed = same(ranks.call("place", *QUESTION))
            assert ranks.call("next_collective") == [RANKS] * RANKS
        np.testing.assert_array_equal(placed, ranks.call("place_by_own", *QUESTION)[0])
        log = ranks.call("log")[1]
        assert len([line for line in log if "not all ranks have it switched on" in line]) == 1


CHANGING = {
    "none yet": None,
    "empty slots": np.where(HELD == 0, -1, HELD),
    "fewer slots before": HELD[:, :-RANKS],
    "more slots before": np.concatenate([HELD, HELD[:, :RANKS]], axis=1),
}


@pytest.mark.parametrize("previous", CHANGING.values(), ids=CHANGING)
def test_a_cluster_that_changes_gets_a_whole_placement(asking: Ranks, previous: np.ndarray | None) -> None:
    """At the start, and while the cluster grows or shrinks, the service fills every slot, whatever the budget."""
    placed = same(asking.call("place", LOAD, SLOTS, RANKS, previous))
    assert asking.call("counts") == [{"placed": 1}, {}, {}]
    assert placed.shape == HELD.shape
    assert all(set(layer) == set(range(EXPERTS)) for layer in placed)


@pytest.mark.parametrize("now", ["none yet", "empty slots", "more slots before"])
def test_where_nothing_can_be_kept_all_use_vllm_s_own(behaving: tuple[Ranks, Behaviour], now: str) -> None:
    """Where there is no placement that could stay, and no answer, every rank places what vLLM itself would."""
    ranks, behaviour = behaving
    behaviour.answer = GARBAGE["nothing"]
    question = (LOAD, SLOTS, RANKS, CHANGING[now])
    placed = same(ranks.call("place", *question))
    np.testing.assert_array_equal(placed, ranks.call("place_by_own", *question)[0])
    assert ranks.call("counts")[1:] == [{}, {}]


def test_a_rank_that_is_lost_ends_nothing(host: Host, server: ServerProcess) -> None:
    """Where the ranks can't reach each other, none takes a placement, and the plug-in raises nothing."""
    with host.ranks(*[on(server.listen)] * RANKS) as ranks:
        same(ranks.call("place", *QUESTION))
        ranks.close(2)
        np.testing.assert_array_equal(same(ranks.each("place", [QUESTION, QUESTION, None])), HELD)
        assert [counts["ranks"] for counts in ranks.each("counts", [(), (), None])] == [1, 1]


def test_a_group_that_grows_agrees_again(host: Host, server: ServerProcess) -> None:
    """In groups as elastic expert parallelism makes them, a rank that joins without it turns it off for all."""
    with host.ranks(on(server.listen), on(server.listen), {}) as ranks:
        port = free_port()
        ranks.each("regroup", [(port, 2), (port, 2), None])
        placed = same(ranks.each("place", [QUESTION, QUESTION, None]))
        assert ranks.each("counts", [(), (), None]) == [{"placed": 1}, {}]
        ranks.each("join_within", [(0.5,), (0.5,), None])
        ranks.call("regroup", free_port(), RANKS)
        grown = same(ranks.call("place", *QUESTION))
        assert ranks.call("next_collective") == [RANKS] * RANKS
        np.testing.assert_array_equal(grown, ranks.call("place_by_own", *QUESTION)[0])
    assert (placed != grown).any()


@pytest.mark.parametrize("use_async", [False, True], ids=["main thread", "asynchronous"])
def test_vllm_moves_the_experts(host: Host, server: ServerProcess, use_async: bool) -> None:
    """The state that vLLM keeps asks, moves weights and commits maps: every rank's slots hold what all maps say."""
    with host.ranks(*[on(server.listen)] * RANKS) as ranks:
        befores, afters, held = zip(*ranks.call("rearrange", use_async), strict=True)
        assert ranks.call("counts") == [{"no load": 1, "placed": 1}, {}, {}]
    assert (same(afters) != same(befores)).any()
    np.testing.assert_array_equal(np.concatenate(held, axis=1), afters[0])


class _Alone:
    """The coordinator of a group of one."""

    rank_in_group, world_size, cpu_group = 0, 1, None


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The table of policies of a vLLM whose policies answer with three maps, its own code loaded alone."""
    code = engine_code(VLLM_OF_THREE_MAPS, "vllm/distributed/eplb/policy/*.py")
    for name in ("vllm", "vllm.config", "vllm.distributed", "vllm.distributed.eplb"):
        package = types.ModuleType(name)
        package.__path__ = [str(code / name.replace(".", "/"))]
        monkeypatch.setitem(sys.modules, name, package)
    config = types.ModuleType("vllm.config.parallel")
    vars(config)["EPLBPolicyOption"] = Literal["default"]
    state = types.ModuleType("vllm.distributed.parallel_state")
    vars(state)["get_eplb_group"] = _Alone
    for module in (config, state):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("policy", "policy.abstract", "policy.default"):  # so that they are forgotten after the test
        monkeypatch.setitem(sys.modules, f"vllm.distributed.eplb.{name}", types.ModuleType(name))
        del sys.modules[f"vllm.distributed.eplb.{name}"]
    table: dict[str, Any] = importlib.import_module("vllm.distributed.eplb.policy").EPLB_POLICIES
    return table


def test_the_three_maps_of_older_releases(
    older: dict[str, Any], server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where vLLM's own policy answers with three maps, so does trimtab's, and they agree with each other."""
    own = older["default"]
    for name, value in on(server.listen).items():
        monkeypatch.setenv(name, value)
    vllm.register()
    vllm.register()  # as vLLM may
    policy = older["default"]
    assert policy.__bases__ == (own,)
    arguments = (torch.from_numpy(LOAD), SLOTS, 1, 1, RANKS, torch.from_numpy(HELD))
    placed, slots, counts = policy.rebalance_experts(*arguments)
    assert policy.balancer.outcomes.counts == {"placed": 1}
    assert [each.dtype for each in (placed, slots, counts)] == [
        each.dtype for each in own.rebalance_experts(*arguments)
    ]
    for layer in range(LAYERS):
        for expert in range(EXPERTS):
            held = (placed[layer] == expert).nonzero().ravel().tolist()
            assert [slot for slot in slots[layer, expert].tolist() if slot != -1] == held
            assert counts[layer, expert] == len(held)


def _refused(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TRIMTAB_VLLM_TARGET", NOBODY)
    vllm.register()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    return record.getMessage()


def test_a_vllm_without_policies(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vLLM that has no table of policies is left alone, and the log says what is missing."""
    monkeypatch.setitem(sys.modules, "vllm", types.ModuleType("vllm"))
    assert _refused(caplog, monkeypatch) == (
        "trimtab stays off: the installed vLLM has not the EPLB policies and the EPLB group that 0.17 has: "
        "No module named 'vllm.distributed'; 'vllm' is not a package"
    )


def test_a_vllm_that_calls_otherwise(
    older: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vLLM that gives its policies other arguments is left alone, and the log says which."""

    class Other:
        @classmethod
        def rebalance_experts(cls, weight: Any, budget: int) -> Any:
            """Asks for other things."""

    older["default"] = Other
    assert "calls its algorithm with weight, budget; trimtab knows weight, num_replicas" in _refused(
        caplog, monkeypatch
    )
    assert older["default"] is Other
