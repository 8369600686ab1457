"""The harness in small: that it can fail, and a few seconds of everything that it does at length by `make`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import asking, connections, fuzz, soak
from tests.harness.generator import CallerPlan, Plan, offer
from tests.harness.judging import wrong_with
from tests.harness.ledger import BooksError, Entry, Ledger, Outcome, outcome_of
from tests.harness.mutations import TINY, Mutator, structured
from tests.harness.raw_sockets import HALF_OPEN, crowd, open_half
from tests.harness.simulated import SimulatedPacker, SimulatedSearcher, simulated_server
from tests.harness.watching import by_label, open_calls, reconciled, scrape, settled_samples
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.v1 import placement_pb2 as pb
from trimtab_server.engine import Engine


@pytest.fixture(scope="module")
def oracle() -> asking.Oracle:
    """What the simulated device answers."""
    return asking.Oracle(Engine(SimulatedPacker(), SimulatedSearcher()))


@pytest.fixture(scope="module")
def simulated() -> Iterator[ServerProcess]:
    """A server whose solves take 2 ms a layer."""
    with simulated_server(0.002) as process:
        yield process


@pytest.fixture(scope="module")
def crowded_server() -> Iterator[ServerProcess]:
    """A server of their own for connections and bytes that nobody else should meet."""
    with running_server("--solver-threads=1") as process:
        yield process


def entry(outcome: Outcome, ended: float = 0.5) -> Entry:
    return Entry("me", "pack", outcome, 0.1, 10, ended)


def test_books_balance_or_say_so() -> None:
    """A call that was sent and has not ended is noticed."""
    ledger = Ledger()
    ledger.send()
    with pytest.raises(BooksError, match="1 calls were sent, 0 have ended"):
        ledger.balance()
    ledger.settle(entry(Outcome.ANSWERED))
    ledger.balance()


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.WRONG])
def test_lost_and_wrong_calls_are_counted(outcome: Outcome) -> None:
    """With their cause; and the verdicts fail on them."""
    ledger = Ledger()
    ledger.send()
    ledger.settle(entry(outcome), "why")
    assert ledger.broken == 1
    assert ledger.causes == {"pack: why": 1}


@pytest.mark.parametrize(
    ("code", "cancelled", "outcome"),
    [
        (grpc.StatusCode.OK, False, Outcome.ANSWERED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, False, Outcome.REFUSED),
        (grpc.StatusCode.CANCELLED, True, Outcome.CANCELLED),
        (grpc.StatusCode.CANCELLED, False, Outcome.WRONG),
        (grpc.StatusCode.INTERNAL, False, Outcome.WRONG),
        (grpc.StatusCode.UNKNOWN, True, Outcome.WRONG),
    ],
)
def test_statuses_come_to_outcomes(code: grpc.StatusCode, cancelled: bool, outcome: Outcome) -> None:
    """A cancellation that nobody asked for is wrong, and so is what the contract does not name."""
    assert outcome_of(code, cancelled=cancelled) is outcome


def liar(answer: bytes | None) -> Any:
    """What answers all calls with the same, or with INTERNAL."""

    async def lie(_raw: bytes, context: Any) -> bytes:
        if answer is None:
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        return answer or b""

    return grpc.unary_unary_rpc_method_handler(lie)


@pytest.mark.parametrize("answer", [b"", None], ids=["another answer", "INTERNAL"])
async def test_a_server_that_lies_is_found_out(answer: bytes | None, oracle: asking.Oracle) -> None:
    """Every call to it is wrong."""
    server = grpc.aio.server()
    methods = {"Pack": liar(answer), "Rebalance": liar(answer)}
    handlers = grpc.method_handlers_generic_handler("trimtab.v1.PlacementService", methods)
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    asks = asking.valid_asks(TINY, oracle)
    ledger = await offer(Plan(f"127.0.0.1:{port}", [CallerPlan("me", 100.0, asks)], (), 0.3, 1))
    await server.stop(None)
    assert ledger.sent > 5
    assert ledger.broken == ledger.sent


def test_a_short_soak_loses_nothing() -> None:
    """Ten times what the server can do, with bad requests, deadlines, cancellations; the books of both sides agree."""
    options = soak.Options(seconds=3.0, peak_seconds=1.5, seconds_per_row=0.004, flags=("--max-queue-seconds=1",))
    soaked = soak.soak(options)
    assert soaked.load.broken == soaked.peak.broken == 0, soaked.load.causes
    assert all(row[-1] == "yes" for row in soaked.reconciled), soaked.reconciled
    counts = {outcome: soaked.load.count(outcome) for outcome in Outcome}
    assert counts[Outcome.ANSWERED] > 20
    assert counts[Outcome.REFUSED] > counts[Outcome.ANSWERED]
    assert counts[Outcome.INVALID]
    assert counts[Outcome.CANCELLED]
    assert soaked.load.of("low").count(Outcome.ANSWERED)


async def test_cancelling_at_any_moment_leaves_nothing_behind(simulated: ServerProcess, oracle: asking.Oracle) -> None:
    """Before, while and after the solve: the queue is empty then, no call is open, and the next is answered."""
    dice = random.Random(5)  # noqa: S311  # repeatable, not secret
    asks = asking.valid_asks(TINY, oracle)
    async with grpc.aio.insecure_channel(simulated.listen) as channel:
        methods: dict[str, Any] = {name: channel.unary_unary(asking.SERVICE + name) for name in ("Pack", "Rebalance")}

        async def one() -> grpc.StatusCode:
            ask = dice.choice(asks)
            call = methods[ask.method](ask.raw, timeout=20)
            asyncio.get_running_loop().call_later(dice.expovariate(8.0), call.cancel)
            code: grpc.StatusCode = await call.code()
            return code

        ended = await asyncio.gather(*(one() for _ in range(300)))
        assert set(ended) <= {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
        assert grpc.StatusCode.CANCELLED in ended
        samples = await asyncio.to_thread(settled_samples, simulated)
        assert open_calls(samples) == 0
        assert by_label(samples, "trimtab_queue_rows", "")[""] == 0
        assert by_label(samples, "trimtab_queue_bytes", "")[""] == 0
        assert asking.promise_of("Pack", await methods["Pack"](asks[0].raw, timeout=20)) == asks[0].expected


def test_some_thousand_requests_gone_wrong_are_answered(
    crowded_server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By OK or INVALID_ARGUMENT, from a fixed seed; on a machine that may be busy."""
    monkeypatch.setattr(fuzz, "SECONDS", 30.0)
    seen = fuzz.fuzz(fuzz.Options(count=3000, seed=7, save=tmp_path), crowded_server)
    assert seen.failed == []
    assert seen.alive
    assert seen.judged > 10
    assert set(seen.codes) <= {"OK", "INVALID_ARGUMENT"}
    assert seen.codes["OK"] > 100
    assert seen.codes.total() == seen.sent == 3000


def test_a_seed_repeats_its_requests(oracle: asking.Oracle) -> None:
    """So that a failure can be looked at again."""
    first, second = (Mutator(asking.valid_asks(TINY, oracle), 3) for _ in range(2))
    assert [first.next() for _ in range(500)] == [second.next() for _ in range(500)]


@given(
    seed=st.integers(0, 2**32), method=st.sampled_from(["Pack", "Rebalance", "Describe"]), tail=st.binary(max_size=8)
)
@settings(max_examples=300)
def test_wild_messages_over_the_wire_are_named_or_answered(
    crowded_server: ServerProcess, seed: int, method: str, tail: bytes
) -> None:
    """Valid protobuf with wild values, some of it sent to another method or with more behind it."""
    made, raw = structured(random.Random(seed))  # noqa: S311  # as above
    method = made if seed % 4 else method
    with grpc.insecure_channel(crowded_server.listen) as channel:
        call: Any = channel.unary_unary(asking.SERVICE + method)
        ended = call.future(raw + tail, timeout=30)
        assert ended.code() in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}, ended.details()
        if ended.code() is grpc.StatusCode.OK:
            assert wrong_with(method, raw + tail, ended.result()) == ""


def test_the_judge_of_answers_can_say_no(oracle: asking.Oracle) -> None:
    """An answer to another question is not valid."""
    asks = {ask.kind: ask for ask in asking.valid_asks(TINY, oracle)}
    pack, place = asks["pack"], asks["rebalance"]
    right = pb.PackResponse(packing=pb.Packing.FromString(pack.expected or b""))
    assert wrong_with("Pack", pack.raw, right.SerializeToString()) == ""
    right.packing.pack_index.data = b"\x00" * len(right.packing.pack_index.data)
    assert "full packs" in wrong_with("Pack", pack.raw, right.SerializeToString())
    placed = pb.RebalanceResponse(placement=pb.Placement.FromString(place.expected or b""))
    assert wrong_with("Rebalance", place.raw, placed.SerializeToString()) == ""
    placed.placement.physical_to_logical.data = b"\x00" * len(placed.placement.physical_to_logical.data)
    assert wrong_with("Rebalance", place.raw, placed.SerializeToString()) != ""


async def test_a_crowd_of_connections_is_borne(crowded_server: ServerProcess) -> None:
    """50 idle and 50 half-open ones: the caller beside them is answered, and so is the next."""
    seen = await connections.crowded(crowded_server, connections.Options(idle=50, half_open=50, calls=30))
    assert len(seen.during) == len(seen.after) == 30
    assert seen.alive
    assert not seen.closed
    assert set(seen.half_open) == set(HALF_OPEN)


@pytest.mark.parametrize("kind", HALF_OPEN)
def test_bytes_that_are_no_call_harm_nobody(kind: str, crowded_server: ServerProcess) -> None:
    """Garbage, half frames, other protocols: the server answers the next caller."""
    host, _, port = crowded_server.listen.rpartition(":")
    with crowd() as opened:
        open_half(opened, (host, int(port)), 20, [kind])
        with grpc.insecure_channel(crowded_server.listen) as channel:
            describe: Any = channel.unary_unary(asking.SERVICE + "Describe")
            answer = describe(b"", timeout=10)
        assert pb.DescribeResponse.FromString(answer).server_version
    assert crowded_server.process.poll() is None


def test_the_server_s_books_disagree_with_wrong_ones(simulated: ServerProcess) -> None:
    """An answer that the server never gave is noticed."""
    ledger = Ledger()
    for _ in range(100_000):
        ledger.send()
        ledger.settle(entry(Outcome.ANSWERED))
    assert "NO" in [row[-1] for row in reconciled(ledger, scrape(simulated))]
