"""The plug-in for SGLang, in SGLang's own code: in real ranks, with a real group between them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points

import numpy as np
import pytest

from tests.command import NOBODY
from tests.engine_packages import why_not_here
from tests.engine_ranks import Host, Ranks, hosting
from tests.engine_services import GARBAGE, answering
from trimtab import Client
from trimtab.cli.server_process import ServerProcess
from trimtab.engines import sglang

pytestmark = pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())

RANKS, SLOTS, EXPERTS, LAYERS = 2, 12, 8, 3
LOAD = np.random.default_rng(0).integers(0, 100, (5, LAYERS, EXPERTS)).astype(np.int32)
HELD = np.tile(np.arange(SLOTS) % EXPERTS, (LAYERS, 1))

Maps = tuple[np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """The process with SGLang's code in it."""
    with hosting("tests.engine_sglang") as process:
        yield process


@pytest.fixture(scope="module")
def asking(host: Host, server: ServerProcess) -> Iterator[Ranks]:
    """Ranks that ask a real server."""
    with host.ranks(*[on(server.listen)] * RANKS) as ranks:
        yield ranks


def on(target: str, max_moves: str = "4") -> dict[str, str]:
    """The variables that switch the plug-in on."""
    return {"TRIMTAB_SGLANG_TARGET": target, "TRIMTAB_SGLANG_MAX_MOVES": max_moves, "TRIMTAB_SGLANG_TIMEOUT": "20"}


def configured(
    ranks: Ranks,
    algorithm: str = "deepseek",
    *,
    num_nodes: int = 1,
    num_gpus: int = RANKS,
    held: np.ndarray | None = HELD,
) -> None:
    """Have this algorithm configured on all ranks, and this placement in force."""
    ranks.call("configure", LAYERS, EXPERTS, SLOTS, num_gpus, algorithm, num_nodes)
    if held is not None:
        ranks.call("hold", held)


def same(answers: Sequence[Maps]) -> np.ndarray:
    """The placement that all ranks have; the other two maps of each rank agree with it."""
    for placed, slots, counts in answers:
        np.testing.assert_array_equal(placed, answers[0][0])
        for layer in range(LAYERS):
            for expert in range(EXPERTS):
                held = np.nonzero(placed[layer] == expert)[0].tolist()
                assert sorted(slot for slot in slots[layer, expert] if slot != -1) == held
                assert counts[layer, expert] == len(held)
    return answers[0][0]


def test_sglang_finds_the_plug_in() -> None:
    """The installed distribution offers it in the group that SGLang looks into."""
    (found,) = entry_points(group="sglang.srt.plugins", name="trimtab")
    assert found.load() is sglang.register


def test_it_does_nothing_unless_switched_on(host: Host) -> None:
    """Without a target SGLang calls its own algorithms alone."""
    with host.ranks({}) as ranks:
        assert ranks.call("is_own") == [True]
        assert ranks.call("log") == [[]]


def test_every_rank_places_what_the_service_answers(asking: Ranks, server: ServerProcess) -> None:
    """All ranks get the service's placement, from what is in force and within the budget of moves."""
    with Client(server.listen) as client:
        load = LOAD.sum(axis=0)
        wanted = client.rebalance(load, num_gpus=RANKS, num_replicas=SLOTS, previous=HELD, max_moves=4)
    configured(asking)
    placed = same(asking.call("place", LOAD))
    np.testing.assert_array_equal(placed, wanted.physical_to_logical)
    assert (placed != HELD).any()
    assert asking.call("counts") == [{"placed": 1}, {}]
    assert asking.call("next_collective") == [RANKS] * RANKS
    assert any(line.startswith("trimtab: ") and " moves, balancedness " in line for line in asking.call("log")[0])


def groups_of_node_0(placement: np.ndarray) -> list[set[int]]:
    """By layer, where two nodes have half of the slots each, and two groups half of the experts."""
    return [{int(expert) * 2 // EXPERTS for expert in layer[: SLOTS // 2]} for layer in placement]


@pytest.mark.parametrize("algorithm", ["auto", "deepseek_vec_hierarchical"])
def test_groups_stay_on_nodes_where_the_algorithm_says_so(host: Host, server: ServerProcess, algorithm: str) -> None:
    """The first placement brings groups together; the next one leaves most in place, and the groups where they are."""
    with host.ranks(*[on(server.listen, max_moves="")] * RANKS) as ranks:
        configured(ranks, algorithm, num_nodes=2, num_gpus=4)
        first = same(ranks.call("place", LOAD))
        ranks.call("hold", first)
        second = same(ranks.call("place", LOAD[:1]))
    assert [len(groups) for groups in groups_of_node_0(HELD)] == [2] * LAYERS
    assert [len(groups) for groups in groups_of_node_0(first)] == [1] * LAYERS
    assert groups_of_node_0(second) == groups_of_node_0(first)
    assert 0 < (second != first).sum() < SLOTS * LAYERS / 2


@pytest.mark.parametrize(
    ("algorithm", "max_moves", "num_gpus"),
    [("deepseek_vec", "", 4), ("deepseek_vec_hierarchical", "4", 4), ("deepseek_vec_hierarchical", "", 2)],
    ids=["not wanted", "a budget", "a GPU has more slots than its node has experts"],
)
def test_groups_that_do_not_come_together(
    host: Host, server: ServerProcess, algorithm: str, max_moves: str, num_gpus: int
) -> None:
    """Where groups need not, may not or can't come together, a placement is searched from what is in force."""
    with host.ranks(*[on(server.listen, max_moves)] * RANKS) as ranks:
        configured(ranks, algorithm, num_nodes=2, num_gpus=num_gpus)
        for _ in range(2):
            placed = same(ranks.call("place", LOAD))
        assert ranks.call("counts") == [{"placed": 2}, {}]
        warnings = [line for line in ranks.call("log")[0] if "groups of experts can't stay on nodes" in line]
    assert 0 < (placed != HELD).sum() < SLOTS * LAYERS / 2
    assert len(warnings) == (num_gpus == 2)


@pytest.mark.parametrize("away", [True, False], ids=["away", "garbage"])
def test_without_an_answer_all_keep_what_they_have(host: Host, away: bool) -> None:
    """Where the service is away or answers garbage, every rank keeps the placement in force."""
    with (
        answering(GARBAGE["an empty slot"]) as address,
        host.ranks(*[on(NOBODY if away else address)] * RANKS) as ranks,
    ):
        configured(ranks)
        np.testing.assert_array_equal(same(ranks.call("place", LOAD)), HELD)
        assert ranks.call("counts") == [{"unavailable" if away else "wrong answer": 1}, {}]
        assert ranks.call("next_collective") == [RANKS] * RANKS


def test_at_the_start_sglang_places_alone(asking: Ranks) -> None:
    """Before anything is placed, where not every process that needs the layout is a rank, nobody is asked."""
    configured(asking, held=None)
    placed = asking.call("place", LOAD)
    np.testing.assert_array_equal(same(placed), asking.call("place_by_own", LOAD)[0][0])
    assert asking.call("counts") == [{}, {}]


def test_a_rank_alone_is_answered_by_sglang_where_ranks_may_be_dead(asking: Ranks) -> None:
    """With an algorithm for ranks that come and go, of which SGLang calls one for all, no other rank is waited for."""
    configured(asking, "elasticity_aware")
    (placed,) = asking.each("place", [(LOAD,), None])
    np.testing.assert_array_equal(placed[0], asking.call("place_by_own", LOAD)[0][0])
    assert asking.call("counts") == [{}, {}]


def test_a_rank_without_it_turns_it_off_for_all(host: Host, server: ServerProcess) -> None:
    """Where one rank would use SGLang's own algorithm, all do."""
    with host.ranks(on(server.listen), {}) as ranks:
        ranks.each("join_within", [(0.5,), None])
        configured(ranks)
        np.testing.assert_array_equal(same(ranks.call("place", LOAD)), ranks.call("place_by_own", LOAD)[0][0])
        assert ranks.call("next_collective") == [RANKS] * RANKS
        assert any("not all ranks have it switched on" in line for line in ranks.call("log")[0])


def test_a_sglang_without_plug_ins(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SGLang that has no hooks is left alone, and the log says what is missing."""
    monkeypatch.setitem(sys.modules, "sglang", types.ModuleType("sglang"))
    monkeypatch.setenv("TRIMTAB_SGLANG_TARGET", NOBODY)
    sglang.register()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == (
        "trimtab stays off: the installed SGLang has not the EPLB algorithms and the hooks that 0.5.23 has: "
        "No module named 'sglang.srt'; 'sglang' is not a package"
    )
