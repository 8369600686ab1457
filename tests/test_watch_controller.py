"""The rounds of `trimtab watch`: what it asks, when it does not, what it does when others fail; time is the test's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.watch_parts import Bench, load_of, placement_of, windows_of
from trimtab.cli.failures import InputFailure, ServerFailure, told
from trimtab.errors import InvalidArgumentError, OverloadedError, TrimtabError, UnavailableError
from trimtab.formats import FileError, LoadWindows, StoredPlacement, read_placement, write_placement
from trimtab.formats.stored import all_layers
from trimtab.watch.output import DryOutput, Output
from trimtab.watch.service import MisfitError, ServiceError
from trimtab.watch.sources import Taken

FIRST, SECOND, THIRD = (placement_of(shift) for shift in range(3))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.journal.close()


def failure(error: TrimtabError) -> ServiceError:
    """As the service raises it."""
    try:
        with told("placement:50051"):
            raise error
    except (InputFailure, ServerFailure) as failed:
        return ServiceError(failed)


def written(bench: Bench) -> list[int]:
    """The first layer of the placement that is in the output."""
    row: list[int] = read_placement(bench.output).physical_to_logical[0].tolist()
    return row


def row(placement: StoredPlacement) -> list[int]:
    first: list[int] = placement.physical_to_logical[0].tolist()
    return first


def metric(bench: Bench, name: str, **labels: str) -> float:
    page = bench.metrics.page()
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples]
    (found,) = [s.value for s in samples if s.name == f"trimtab_watch_{name}" and s.labels == labels]
    return found


def put_first(bench: Bench) -> None:
    """A first placement, made from the first dump."""
    bench.service.script = [(FIRST, 0.0, 0.9)]
    bench.source.add(1)
    assert bench.step() == ["read", "written"]


def test_it_rebalances_what_is_in_force_on_the_windows_that_are_kept(bench: Bench) -> None:
    """The first from nothing, the next from the first; one question a decision; and it counts all of it."""
    assert bench.step() == []
    put_first(bench)
    assert written(bench) == row(FIRST)
    bench.service.script = [(SECOND, 0.5, 0.9)]
    bench.source.add(2)
    bench.source.add(3)
    assert bench.step() == ["read", "read", "written"]
    assert written(bench) == row(SECOND)
    assert bench.step() == []
    (_, nothing), (loads, in_force) = bench.service.asked
    assert nothing is None
    assert in_force is not None
    assert row(in_force) == row(FIRST)
    assert np.array_equal(loads.load, windows_of(2, 3).load)
    line = bench.lines[-1]
    assert line["message"].startswith("3 moves take balancedness from 0.5000 to 0.9000, gaining 96 s in 600 s for ")
    assert line["message"].endswith(f"; written to {bench.output}")
    assert (line["moves"], line["balancedness_before"], line["balancedness_after"]) == (3, 0.5, 0.9)
    counts = {name: metric(bench, f"{name}_total") for name in ("windows", "asked", "rebalances", "moves")}
    assert counts == {"windows": 3, "asked": 2, "rebalances": 2, "moves": 6}
    assert (metric(bench, "balancedness", stage="before"), metric(bench, "balancedness", stage="after")) == (0.5, 0.9)
    assert (metric(bench, "seconds_since_window"), metric(bench, "seconds_since_success")) == (10, 10)


def test_what_is_not_worth_it_is_not_written(bench: Bench) -> None:
    """It says why, and asks again only with new windows, also after a start."""
    put_first(bench)
    bench.service.script = [(SECOND, 0.9, 0.900001)]
    bench.source.add(2)
    assert bench.step() == ["read", "not_worth"]
    assert bench.lines[-1]["message"].startswith("keeps the placement: 3 moves take balancedness from 0.9000 to 0.9000")
    bench.restart()
    assert bench.step() == []
    assert (written(bench), len(bench.service.asked)) == (row(FIRST), 2)


def test_windows_wait_for_the_end_of_the_cooldown(tmp_path: Path) -> None:
    """Nothing is asked meanwhile, also by the next start; when it is over, what came is decided on."""
    bench = Bench(tmp_path, cooldown=30.0)
    put_first(bench)
    bench.service.script = [(SECOND, 0.5, 0.9)]
    bench.source.add(2)
    assert bench.step() == ["read", "cooldown"]
    assert bench.lines[-1]["message"] == "keeps the placement: 20 s of --cooldown are left since the last rebalance"
    bench.restart()
    assert bench.step() == ["cooldown"]
    assert len(bench.service.asked) == 1
    assert bench.step() == ["written"]
    assert written(bench) == row(SECOND)
    bench.journal.close()


def test_a_clock_that_was_set_back_does_not_hold_it_up(tmp_path: Path) -> None:
    """A last rebalance that seems to be in the future was just now."""
    bench = Bench(tmp_path, cooldown=30.0)
    put_first(bench)
    bench.service.script = [(SECOND, 0.5, 0.9)]
    bench.source.add(2)
    bench.time -= 900
    bench.restart()
    assert bench.step() == ["read", "cooldown"]
    assert bench.step(25) == ["written"]
    bench.journal.close()


def test_a_service_that_is_away_is_asked_again_later_and_later(bench: Bench) -> None:
    """The placement stays, what comes meanwhile is read, and the pause grows to a minute."""
    put_first(bench)
    bench.source.add(2)
    bench.service.script = [failure(UnavailableError("connection refused"))] * 9
    pauses = []
    for _ in range(9):
        told = bench.step(60.0)
        assert told[-1] == "unavailable"
        pauses.append(bench.lines[-1]["seconds"])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert "no server answers at placement:50051 (connection refused)" in bench.lines[-1]["message"]
    assert bench.lines[-1]["message"].endswith("; the placement stays, the next try is in 60 s")
    assert written(bench) == row(FIRST)
    bench.source.add(3)
    assert bench.step(30.0) == ["read"]
    bench.service.script = [(SECOND, 0.5, 0.9)]
    assert bench.step(30.0) == ["written"]
    assert np.array_equal(bench.service.asked[-1][0].load, windows_of(2, 3).load)
    assert metric(bench, "failures_total", reason="unavailable") == 9


def test_it_comes_back_when_the_service_asks_it_to(bench: Bench) -> None:
    """But not after an hour."""
    bench.source.add(1)
    for asked_for, pause in ((7.0, 7.0), (3600.0, 300.0)):
        bench.service.script = [failure(OverloadedError("full", asked_for))]
        assert bench.step(600.0)[-1] == "overloaded"
        assert bench.lines[-1]["seconds"] == pause


def test_the_loop_waits_for_what_comes_first(bench: Bench) -> None:
    """The next look, or the next try where that is sooner."""
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        bench.time += seconds
        if len(waits) == 4:
            bench.service.script = [(FIRST, 0.0, 0.9)]
        return len(waits) == 6

    bench.source.add(1)
    bench.service.script = [failure(UnavailableError("gone"))] * 4
    bench.controller.run(wait)
    assert waits == [1, 2, 4, 8, 10, 10]
    assert written(bench) == row(FIRST)


def test_a_refused_request_is_not_sent_again_as_it_is(bench: Bench) -> None:
    """Only with the next window."""
    bench.source.add(1)
    bench.service.script = [failure(InvalidArgumentError.of("num_replicas", "must be a multiple of num_gpus"))]
    assert bench.step() == ["read", "invalid"]
    assert "--replicas: must be a multiple of num_gpus; the placement stays, until" in bench.lines[-1]["message"]
    assert bench.step(600.0) == []
    put_first(bench)


def test_a_single_round_ends_with_the_code_of_its_failure(bench: Bench) -> None:
    """3 for the service, 2 for input, else 0; and it promises no next try."""
    for error, code in ((UnavailableError("gone"), 3), (InvalidArgumentError.of("load", "is bad"), 2)):
        bench.restart()
        bench.source.add(1)
        bench.service.script = [failure(error)]
        bench.controller.run_once(lambda _seconds: False)
        assert bench.controller.exit_code == code
        assert "next try" not in bench.lines[-1]["message"]
    bench.restart()
    bench.source.put.append(Taken("a dump", {"taken": 3}, failure=("unreadable", "is broken")))
    bench.controller.run_once(lambda _seconds: False)
    assert bench.controller.exit_code == 2
    bench.restart()
    bench.controller.run_once(lambda _seconds: False)
    assert bench.controller.exit_code == 0


def test_what_is_wrong_with_a_source_is_told_once_and_counted_each_time(bench: Bench) -> None:
    """Until it is over, or something else is wrong."""
    broken = Taken("http://a", failure=("source", "answers 503"))
    for put, events in (
        ([broken], ["source"]),
        ([broken], []),
        ([Taken("http://a", failure=("source", "answers 404"))], ["source"]),
        ([], []),
        ([broken], ["source"]),
    ):
        bench.source.put = put
        assert bench.step() == events
    assert metric(bench, "failures_total", reason="source") == 4


def test_windows_of_another_shape_begin_the_history_anew(bench: Bench) -> None:
    """That is told; a placement of another model is not replaced."""
    put_first(bench)
    load = np.ones((1, 3, 4), int)
    bench.source.add(2, LoadWindows(load, all_layers(load), 1))
    bench.service.script = [MisfitError("the placement in force is of 6 experts, loads of 4")]
    assert bench.step() == ["restarted", "read", "misfit"]
    assert "3 layers (0 to 2) of 4 experts, the windows before have 2 layers" in bench.lines[-3]["message"]
    assert "to serve another model, begin with another journal and output" in bench.lines[-1]["message"]
    assert bench.service.asked[-1][0].load.shape == (1, 3, 4)
    assert written(bench) == row(FIRST)
    bench.service.script = [(SECOND, 0.5, 0.9)]
    bench.source.add(3)
    assert bench.step() == ["restarted", "read", "written"]


def test_loads_of_nothing_are_not_asked_about(bench: Bench) -> None:
    """An idle cluster keeps its placement."""
    bench.source.add(1, LoadWindows(np.zeros_like(load_of(1))[None], all_layers(load_of(1)), 1))
    assert bench.step() == ["read", "no_load"]
    assert bench.service.asked == []


def test_what_the_loads_tell_is_in_force(bench: Bench) -> None:
    """They were counted under it, whatever was written; where that differs it is told."""
    put_first(bench)
    windows = windows_of(2)
    bench.source.add(2, LoadWindows(windows.load, windows.layers, 1, THIRD))
    bench.service.script = [(SECOND, 0.5, 0.9)]
    assert bench.step() == ["read", "written"]
    assert f"; counted under another placement than {bench.output} has" in bench.lines[-2]["message"]
    in_force = bench.service.asked[-1][1]
    assert in_force is not None
    assert row(in_force) == row(THIRD)


def test_a_placement_that_was_there_is_in_force_at_the_first_start(bench: Bench) -> None:
    """That of the output, or the one that is named; at later starts the journal knows better."""
    write_placement(bench.output, SECOND)
    bench.restart()
    assert bench.state.in_force is not None
    assert row(bench.state.in_force) == row(SECOND)
    bench.restart(previous=THIRD)
    assert row(bench.state.in_force) == row(SECOND)


def test_a_placement_that_is_named_comes_before_the_output(tmp_path: Path) -> None:
    """And is not written until it changes."""
    write_placement(tmp_path / "placement.json", SECOND)
    bench = Bench(tmp_path)
    bench.journal.close()
    bench.journal.path.unlink()
    bench.start(previous=THIRD)
    assert bench.state.in_force is not None
    assert (row(bench.state.in_force), written(bench)) == (row(THIRD), row(SECOND))
    bench.restart()
    assert row(bench.state.in_force) == row(THIRD)
    bench.journal.close()


def test_what_somebody_else_wrote_is_in_force(bench: Bench) -> None:
    """Engines read it; found at the next decision, and at the next start."""
    put_first(bench)
    write_placement(bench.output, THIRD)
    bench.source.add(2)
    bench.service.script = [(SECOND, 0.5, 0.9)]
    assert bench.step() == ["read", "adopted", "written"]
    assert row(bench.service.asked[-1][1] or FIRST) == row(THIRD)
    write_placement(bench.output, FIRST)
    bench.restart()
    assert bench.lines[-2]["event"] == "adopted"
    assert row(bench.state.in_force or THIRD) == row(FIRST)


def test_an_output_that_is_gone_is_written_again(bench: Bench) -> None:
    """It does not make the service place from nothing, and is no rebalance."""
    put_first(bench)
    bench.output.unlink()
    bench.restart()
    assert written(bench) == row(FIRST)
    assert bench.lines[-2]["message"] == f"{bench.output} had gone, and is there again"
    assert metric(bench, "rebalances_total") == 0


def test_an_output_that_is_no_placement_is_not_believed(bench: Bench) -> None:
    """At the first start it is somebody's file, and left alone; later it is replaced by the next placement."""
    bench.output.write_text('{"precious": 1}')
    with pytest.raises(FileError, match=r"placement.json"):
        bench.restart()
    assert json.loads(bench.output.read_text()) == {"precious": 1}
    bench.output.unlink()
    bench.restart()
    put_first(bench)
    bench.output.write_text("{}")
    bench.source.add(2)
    bench.service.script = [(SECOND, 0.5, 0.9)]
    assert bench.step() == ["read", "output", "written"]
    assert written(bench) == row(SECOND)


class Full(Output):
    """An output whose disk is full, until it is not."""

    is_full = False

    def write(self, content: bytes) -> None:
        if Full.is_full:
            raise FileError(self.path, "can't be written (No space left on device)")
        super().write(content)


def test_an_output_that_can_t_be_written_is_tried_again(tmp_path: Path) -> None:
    """With the placement that was decided on, without asking once more; nothing is lost by a start in between."""
    bench = Bench(tmp_path, make_output=Full)
    put_first(bench)
    Full.is_full = True
    bench.source.add(2)
    bench.service.script = [(SECOND, 0.5, 0.9)]
    assert bench.step() == ["read", "output"]
    assert bench.step() == ["output"]
    assert bench.lines[-1]["seconds"] == 2
    assert written(bench) == row(FIRST)
    Full.is_full = False
    assert bench.step() == ["written"]
    assert written(bench) == row(SECOND)
    assert (len(bench.service.asked), metric(bench, "moves_total")) == (2, 6)
    assert bench.step() == []
    bench.journal.close()


def test_a_dry_run_goes_on_as_if_it_had_written(tmp_path: Path) -> None:
    """The next question is asked from what would be in force; no file comes about."""
    bench = Bench(tmp_path, make_output=DryOutput)
    put_first(bench)
    bench.service.script = [(SECOND, 0.5, 0.9)]
    bench.source.add(2)
    assert bench.step() == ["read", "written"]
    assert row(bench.service.asked[-1][1] or THIRD) == row(FIRST)
    assert not bench.output.exists()
    bench.journal.close()


def test_metrics_are_all_there_from_the_start(bench: Bench) -> None:
    """A rate misses what made a series begin; and the page is one that Prometheus can read."""
    families = {family.name: family for family in text_string_to_metric_families(bench.metrics.page())}
    assert all(name.startswith("trimtab_watch_") for name in families)
    reasons: dict[str, set[Any]] = {
        name: {sample.labels["reason"] for sample in families[f"trimtab_watch_{name}"].samples}
        for name in ("skipped", "failures")
    }
    assert reasons["skipped"] == {"cooldown", "no_load", "misfit", "no_gain", "not_worth"}
    assert {"source", "unreadable", "output", "unavailable", "overloaded", "expired"} <= reasons["failures"]
    assert np.isnan(metric(bench, "seconds_since_window"))
