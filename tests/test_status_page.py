"""The status page: what it tells is so, what is nobody's business is not in it, and it costs next to nothing."""

from __future__ import annotations

import base64
import gc
import hashlib
import http.client
import re
import threading
import weakref
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import trimtab
from tests.fakes import FakeClock
from tests.gated_server import GatedPacker, started, until
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab_server import metrics
from trimtab_server.history import Buckets, History, Reading, busy, each_interval, each_minute, last_minute, rate
from trimtab_server.metrics import Metrics
from trimtab_server.recent_solves import KEPT, RecentSolves
from trimtab_server.settings import Settings
from trimtab_server.solvers.placement import PlacementAnswer
from trimtab_server.solvers.problem import PackAnswer
from trimtab_server.status_charts import ceiling, layers_strip, lines_chart
from trimtab_server.status_figures import figures, number, percent, seconds
from trimtab_server.status_page import StatusPage

MOST_BYTES = 60_000
CALLER = "somebody-of-acme"
EMPTY = Buckets()
START = Reading(0.0, {}, EMPTY, EMPTY, EMPTY, EMPTY, 0.0, 0.0)


def pack_answer(layers: int = 2, *, largest: float = 4.0) -> PackAnswer:
    """Mean 2, largest before 8, largest after as told; the last layer has no load."""
    load = np.ones(layers)
    load[-1] = 0
    nothing = np.zeros((layers, 4), np.int32)
    return PackAnswer(
        nothing,
        nothing,
        largest * load,
        2 * load,
        load,
        nothing[:, 0],
        initial_max_load=8 * load,
        solver="cpu",
        device="cpu",
    )


def placement_answer(layers: int = 2, *, has_previous: bool = True) -> PlacementAnswer:
    """From 0.5 to 0.75 with three moves a layer, or from nothing to 0.75."""
    before = np.full(layers, 0.5 if has_previous else np.nan)
    after = np.full(layers, 0.75)
    return PlacementAnswer(
        physical_to_logical=np.zeros((layers, 4), np.int32),
        before=before,
        after=after,
        bound=after,
        latest_before=before,
        latest_after=after,
        latest_bound=after,
        moves=np.full(layers, 3, np.int32),
        layer_order=np.arange(layers),
        curve=np.zeros((1, 2)),
        has_previous=has_previous,
        hierarchical=False,
        solver="<cpu>",
        device="cpu",
    )


class Seen(HTMLParser):
    """A page, taken apart; one that is not well formed fails."""

    VOID = frozenset({"meta", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1][0] not in {"style", "script"}:
            self.words.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.words)


class Bench:
    """A page over metrics, solves and time in the test's hand."""

    def __init__(self, settings: Settings | None = None, **fields: Any) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics(CollectorRegistry())
        self.fullness = 0.0
        self.history = History(self.metrics, lambda: self.fullness, self.clock.now)
        self.solves = RecentSolves()
        self.page = StatusPage(
            **{
                "build": {"Version": "1.2.3"},
                "settings": settings or Settings(),
                "history": self.history,
                "solves": self.solves,
                "is_alive": lambda: True,
                "is_ready": lambda: True,
                "address": lambda: "127.0.0.1:9095",
                **fields,
            }
        )

    def call(self, code: str = "OK", took: float = 0.004, times: int = 1) -> None:
        for _ in range(times):
            self.metrics.called("s", "Pack", "", code, seconds=took)

    def tick(self, times: int = 1) -> None:
        """Five seconds pass, and are read."""
        for _ in range(times):
            self.clock.advance(5)
            self.history.keep()

    def solve(self, *answers: Any, took: float = 0.02) -> None:
        self.solves._keep(answers, self.clock.now(), took)

    def seen(self) -> Seen:
        return Seen(self.page().body.decode())


def bucket_of(value: float) -> tuple[float, float]:
    """Between which bounds the metrics count a time."""
    bounds = (0.0, *metrics._SECONDS)
    i = bisect_left(bounds, value)
    return bounds[i - 1], bounds[i]


@pytest.mark.parametrize(
    ("counts", "part", "expected"),
    [
        ((10, 20, 20), 0.5, 1.0),  # the tenth of twenty is the last of the first bucket
        ((10, 20, 20), 0.75, 2.0),  # half way from 1 to 3
        ((0, 20, 20), 0.95, 2.9),
        ((20, 20, 20), 0.5, 0.5),  # buckets begin at 0
        ((0, 0, 20), 0.5, 3.0),  # beyond the last bound: that bound
        ((0, 19, 19), 0.95, None),  # a guess
        ((0, 1, 1), 0.5, None),
        ((0, 0, 0), 0.5, None),
    ],
)
def test_percentiles_are_interpolated_or_left_out(
    counts: tuple[float, ...], part: float, expected: float | None
) -> None:
    """By hand, with bounds 1, 3 and infinity; none where nothing lies beyond it."""
    found = Buckets((1.0, 3.0, float("inf")), counts, 0.0).quantile(part)
    assert found == (None if expected is None else pytest.approx(expected))


def test_percentiles_are_those_of_the_metrics() -> None:
    """Read from a histogram with labels, eleven calls in one bucket, and only those since the reading before."""
    bench = Bench()
    bench.call(took=9.0, times=50)
    before = bench.history.read()
    bench.call(took=0.003, times=10)
    bench.metrics.called("s", "Rebalance", "", "OK", seconds=0.003)
    since = bench.history.read().handling.since(before.handling)
    low, high = bucket_of(0.003)
    assert (since.count, since.most) == (11, high)
    assert since.quantile(0.5) == pytest.approx((low + high) / 2)
    assert since.mean == pytest.approx(0.003)
    assert since.quantile(0.95) is None


def test_rates_are_by_the_time_that_passed() -> None:
    """Ten calls in 5 s, none, then five in 10 s, a late reading."""
    bench = Bench()
    bench.history.keep()
    bench.call(times=10)
    bench.tick(2)
    bench.call(times=5)
    bench.clock.advance(5)
    bench.tick()
    calls = rate(lambda reading: sum(reading.calls.values()))
    assert [figure for _, figure in each_interval(bench.history.readings, calls)] == [2.0, 0.0, 0.5]
    assert [at for at, _ in each_interval(bench.history.readings, calls)] == [1005.0, 1010.0, 1020.0]
    same = bench.history.read()
    assert calls(same, same) is None


def test_a_minute_is_a_minute() -> None:
    """What was before it no longer counts, though readings came a little late."""
    bench = Bench()
    bench.history.keep()
    bench.call(took=0.003, times=20)
    bench.tick()
    bench.clock.advance(0.01)
    bench.tick(12)
    middle = each_minute(
        bench.history.readings, lambda earlier, later: later.handling.since(earlier.handling).quantile(0.5)
    )
    assert [figure is None for _, figure in middle] == [False] * 12 + [True]
    earlier, later = last_minute(bench.history.readings)
    assert later.at - earlier.at == pytest.approx(60.01)


def test_long_work_is_told_where_it_was_done() -> None:
    """A solve of 12 s that is counted when it ends fills the intervals before, and none is busier than it can be."""
    readings = [replace(START, at=5.0 * i, busy_seconds=12.0 if i >= 3 else 0.0) for i in range(5)]
    assert busy(readings) == [(5, pytest.approx(0.4)), (10, 1.0), (15, 1.0), (20, 0.0)]


def test_history_is_bounded() -> None:
    """Ten minutes are kept, however long it goes on."""
    bench = Bench()
    bench.tick(1000)
    readings = bench.history.readings
    assert len(readings) == 121
    assert readings[-1].at - readings[0].at == 600


def test_solves_are_bounded_in_number_and_in_size() -> None:
    """Of 10,000 answers, one a batch or sixty-four, the figures of the last few are kept, and no placement."""
    bench = Bench()
    placements: list[weakref.ref[Any]] = []
    for size in [1] * 2000 + [64] * 125:
        packed = [pack_answer() for _ in range(size)]
        placed = [placement_answer() for _ in range(size)]
        placements += [weakref.ref(answer.pack_index) for answer in packed]
        placements += [weakref.ref(answer.physical_to_logical) for answer in placed]
        bench.solve(*packed)
        bench.solve(*placed)
    del packed, placed
    gc.collect()
    assert len(placements) == 20_000
    assert not any(placement() is not None for placement in placements)
    assert len(bench.solves.latest) == KEPT


def test_solves_are_what_was_answered() -> None:
    """By hand: packs, rebalances with and without a placement before, layers without load; latest first."""
    bench = Bench()
    bench.solve(pack_answer(3), placement_answer(4))
    bench.solve(placement_answer(5, has_previous=False), took=0.5)
    fresh, moved, packed = bench.solves.latest
    assert (packed.operation, packed.layers, packed.before.mean, packed.after.mean) == ("pack", 3, 0.25, 0.5)
    assert (packed.moves, packed.seconds, packed.requests) == (None, 0.02, 2)
    np.testing.assert_array_equal(packed.before.by_layer, [0.25, 0.25, np.nan])
    np.testing.assert_array_equal(packed.after.by_layer, [0.5, 0.5, np.nan])
    assert (moved.operation, moved.before.mean, moved.after.mean) == ("rebalance", 0.5, 0.75)
    np.testing.assert_array_equal(moved.moves, [3, 3, 3, 3])
    assert (fresh.moves, fresh.seconds, fresh.requests) == (None, 0.5, 1)
    assert np.isnan(fresh.before.mean)


def test_the_page_tells_the_last_minutes() -> None:
    """Twenty-five calls, of them two refused and one failed, over 10 s."""
    bench = Bench()
    bench.history.keep()
    bench.call(times=22)
    bench.call("RESOURCE_EXHAUSTED", times=2)
    bench.call("INTERNAL")
    bench.metrics.device_busy.inc(5)
    bench.metrics.queue_wait.observe(0.3)
    bench.fullness = 0.25
    bench.tick(2)
    text = bench.seen().text
    assert "Calls 2.5 /s 25 in 10 minutes" in text
    assert "Refused or failed 0.3 /s refused failed · 1 INTERNAL, 2 RESOURCE_EXHAUSTED" in text
    low, high = bucket_of(0.004)
    middle, most = seconds((low + high) / 2), seconds(low + 0.95 * (high - low))
    assert f"Latency {most} p95 p50 {middle} · 25 calls" in text
    assert f"Queue wait – p95 p50 · 1 requests, none over {seconds(bucket_of(0.3)[1])}" in text  # noqa: RUF001
    assert "Device thread busy 50%" in text
    assert "Queue full 25%" in text


def test_an_idle_page_says_so() -> None:
    """Before the first call, before the first reading, and with settings that are all defaults."""
    text = Bench().seen().text
    assert text.count("none in 10 minutes") == 3
    assert "No solve yet" in text
    assert "All are as by default." in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("is_alive", "is_ready", "word", "why"),
    [
        (True, True, "● Ready", ""),
        (True, False, "▲ Not ready", " starting, draining, or without its device"),
        (False, True, "▲ Not alive", " the event loop does not answer, or a solve is stuck"),
    ],
)
def test_the_state_is_told_in_words(is_alive: bool, is_ready: bool, word: str, why: str) -> None:
    """And in the title, for who has it in a tab."""
    text = Bench(is_alive=lambda: is_alive, is_ready=lambda: is_ready).seen().text
    assert f"trimtab {word}{why} Version" in text
    assert text.startswith(f"trimtab: {word[2:].lower()} ")


def test_hostile_text_stays_text() -> None:
    """Whatever came from outside is escaped where it stands, and starts no tag and no attribute."""
    hostile = "<script>alert(1)</script>\"'&$style"
    settings = Settings().model_copy(update={"listen": hostile, "device": hostile})
    bench = Bench(settings, build={"Version": hostile})
    bench.solve(placement_answer())  # of a solver that is called <cpu>
    body = bench.page().body.decode()
    assert body.count("<script>") == 1
    assert body.count("&lt;script&gt;alert(1)") == 3
    assert "&lt;cpu&gt;" in body
    assert Seen(body).text.count(hostile) == 3


def test_secrets_stay_at_home(tmp_path: Path) -> None:
    """Files, names of callers and where traces go are told to be set, never what they are."""
    settings = Settings(
        tls_cert=tmp_path / "server.pem",
        tls_key=tmp_path / "very-private.key",
        callers_file=tmp_path / "callers",
        metric_callers=(CALLER,),
        otlp_endpoint="http://collector.of-acme:4317",
    )
    bench = Bench(settings)
    body = bench.page().body.decode()
    for secret in (str(tmp_path), "server.pem", "very-private", CALLER, "of-acme"):
        assert secret not in body
    text = bench.seen().text
    for flag in ("--tls-cert", "--tls-key", "--callers-file", "--metric-callers", "--otlp-endpoint"):
        assert f"{flag} set" in text
    assert "--tls-client-ca not set" in text


def test_settings_that_differ_come_first() -> None:
    """Before the fold; all others, but no commands, behind it."""
    seen = Bench(Settings(max_batch_rows=1024, reflection=False)).seen()
    changed, rest = seen.text.split("as by default", maxsplit=1)
    assert "--max-batch-rows 1,024" in changed
    assert "--reflection no" in changed
    assert "--max-queue-rows 16,384" in rest
    assert "--max-batch-rows" not in rest
    flags = {word for word in seen.words if word.startswith("--")}
    commands = {"check_config", "new_token", "probe"}
    assert flags == {f"--{name.replace('_', '-')}" for name in Settings.model_fields if name not in commands}


def test_the_page_is_small_and_well_formed_at_its_fullest() -> None:
    """Ten minutes of changing figures and the largest solves; tables have captions, drawings say what they show."""
    bench = Bench(Settings(max_batch_rows=1024))
    random = np.random.default_rng(0)
    for _ in range(121):
        bench.call(took=float(random.lognormal(-5, 2)), times=int(random.integers(20, 60)))
        bench.call("INTERNAL", times=int(random.integers(0, 3)))
        for metric in (bench.metrics.queue_wait, bench.metrics.batch_requests, bench.metrics.batch_rows):
            metric.observe(float(random.lognormal(0, 2)))
        bench.metrics.device_busy.inc(float(random.uniform(0, 5)))
        bench.fullness = float(random.random())
        bench.tick()
    for _ in range(KEPT):
        answer = pack_answer(4000)
        bench.solve(replace(answer, max_load=random.uniform(2, 8, 4000), initial_max_load=np.full(4000, 8.0)))
    body = bench.page().body
    assert len(body) < MOST_BYTES
    seen = Seen(body.decode())
    assert "4,000 layers · " in seen.text
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in seen.all("svg"))
    assert len(seen.all("svg")) == 8 + 4
    assert len(seen.all("caption")) == len(seen.all("table")) == 3
    levels = [int(tag[1]) for tag, _ in seen.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert max(Counter(ids).values()) == 1
    assert {each["aria-labelledby"] for _, each in seen.tags if "aria-labelledby" in each} <= set(ids)


def test_layers_that_share_a_column_show_the_worst() -> None:
    """Of 100 layers two a column, and the one that is badly balanced can be found; a layer without load is told."""
    bench = Bench()
    answer = pack_answer(100)
    answer.max_load[41] = 6.25
    bench.solve(answer, pack_answer(2))
    small, large = bench.solves.latest
    strip = layers_strip("a <title>", large)
    assert "<title>layers 40 to 41, the worst: 0.2500 to 0.3200</title>" in strip
    assert strip.count("<title>") == 50
    assert 'aria-label="a &lt;title&gt;"' in strip
    assert "<title>layer 1: no load</title>" in layers_strip("", small)


def test_lines_break_where_nothing_is_known() -> None:
    """Two stretches of a line, the second of them one point; what is above the top is drawn at the top."""
    series: Any = [(400.0, 1.0), (700.0, 4.0), (850.0, None), (1000.0, 2.0)]
    assert '<path class="line0" d="M0 64l240 -64M480 0l0 0"/>' in lines_chart("", [series], 2.0, 1000.0)


@pytest.mark.parametrize(
    ("largest", "expected"), [(0, 1), (0.9, 1), (1, 1), (1.1, 2), (2.1, 2.5), (0.03, 0.05), (60, 100), (7e6, 1e7)]
)
def test_axes_end_at_round_numbers(largest: float, expected: float) -> None:
    """The next of 1, 2, 2.5 and 5 times a power of ten."""
    assert ceiling(largest) == pytest.approx(expected)


def test_numbers_are_short() -> None:
    """Three digits and a unit, whatever the size."""
    assert [number(each) for each in (0, 0.123456, 12.34, 1234.5)] == ["0", "0.123", "12.3", "1,234"]
    assert [seconds(each) for each in (0.00042, 0.25, 12)] == ["0.42 ms", "250 ms", "12 s"]
    assert [percent(each) for each in (0, 0.0041, 0.5, 1)] == ["0%", "0.41%", "50%", "100%"]


def test_figures_need_no_reading() -> None:
    """A page that is asked for before the first one is kept is whole."""
    assert figures([], START).count("<figure>") == 8


def test_pages_are_made_while_all_else_goes_on() -> None:
    """Four threads ask for pages while calls, readings and solves come in; every page is whole."""
    bench = Bench()
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            bench.call()
            bench.tick()
            bench.solve(*[pack_answer()] * 30)

    found: list[Any] = []

    def look() -> None:
        try:
            found.extend(bench.seen() for _ in range(8))
        except BaseException as error:  # noqa: BLE001  # for the test to judge
            found.append(error)

    worker, lookers = threading.Thread(target=work), [threading.Thread(target=look) for _ in range(4)]
    for thread in (worker, *lookers):
        thread.start()
    for thread in lookers:
        thread.join()
    ended.set()
    worker.join()
    assert [type(each) for each in found] == [Seen] * 32


@pytest.fixture(scope="module")
def called() -> Iterator[ServerProcess]:
    """A server that packed three times, rebalanced once, and refused once."""
    with running_server("--max-batch-rows=4096") as server, trimtab.Client(server.listen, caller=CALLER) as client:
        for _ in range(3):
            client.pack([[4.0, 3.0, 2.0, 1.0]] * 5, 2)
        client.rebalance([[4.0, 1.0, 4.0, 1.0]], num_gpus=2, num_replicas=4, previous=[[0, 2, 1, 3]])
        with pytest.raises(trimtab.InvalidArgumentError):
            client.pack([[1.0, 2.0, 3.0]], 2)
        counted = re.compile(r'grpc_server_handled_total\{.*"INVALID_ARGUMENT".*"Pack".* 1\.0')
        until(lambda: counted.search(server.scrape()) is not None)  # which is after the answer
        yield server


def ask(server: str, method: str = "GET", path: str = "/", body: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server, timeout=20)
    connection.request(method, path, body)
    return connection.getresponse()


def test_a_real_page_agrees_with_the_metrics(called: ServerProcess) -> None:
    """Calls, refusals, balancedness and moves are those that /metrics has; who called is not there."""
    body = ask(called.metrics).read().decode()
    text = Seen(body).text
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(called.scrape())
        for sample in family.samples
    }
    calls = sum(value for key, value in values.items() if key[0] == "grpc_server_handled_total")
    assert f"{calls:.0f} in 10 minutes" in text
    assert "1 INVALID_ARGUMENT" in text
    assert f"{values['trimtab_queue_wait_seconds_count',]:.0f} requests, none over" in text
    before, after = (values["trimtab_balancedness_sum", stage, "rebalance"] for stage in ("before", "after"))
    moves = values["trimtab_moves_sum",]
    row = f"rebalance 1 {before:.4f} {after:.4f} {moves:.0f}"
    assert row in text
    packed = values["trimtab_balancedness_sum", "after", "pack"] / 3
    assert text.count(f"pack 5 0.7143 {packed:.4f} –") == 3  # noqa: RUF001
    assert f"Version {trimtab.__version__} Solver cpu Device cpu" in text
    assert CALLER not in body


def test_a_real_page_forbids_all_that_it_does_not_need(called: ServerProcess) -> None:
    """Its own style and script by their hashes, its own address to renew itself, and nothing else."""
    answer = ask(called.metrics)
    body = answer.read()
    rules = dict(rule.split(" ", 1) for rule in str(answer.headers["Content-Security-Policy"]).split("; "))
    assert rules.pop("default-src") == "'none'"
    for name in ("style", "script"):
        (text,) = re.findall(f"<{name}>(.*?)</{name}>".encode(), body, re.DOTALL)
        assert rules.pop(f"{name}-src") == f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
    closed = dict.fromkeys(("base-uri", "form-action", "frame-ancestors"), "'none'")
    assert rules == {"connect-src": "'self'", "img-src": "data:", **closed}
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    seen = Seen(body.decode())
    assert {each["href"] for each in seen.all("a")} == {"/metrics", "/readyz", "/livez", "/log-level"}
    assert not [name for _, attributes in seen.tags for name in attributes if name == "style" or name.startswith("on")]
    assert not [each for _, each in seen.tags if any("//" in str(value) for value in each.values())]


def test_head_and_other_methods(called: ServerProcess) -> None:
    """HEAD has the headers alone; nothing can be posted."""
    head = ask(called.metrics, "HEAD")
    assert (head.status, head.read()) == (200, b"")
    assert int(head.headers["Content-Length"]) > 10_000
    assert ask(called.metrics, "POST").status == 405


def test_the_line_about_the_log_level_is_true(called: ServerProcess) -> None:
    """What it says to send is taken, and the page then tells the new level."""
    (command,) = re.findall("<code>curl (.*)</code>", ask(called.metrics).read().decode())
    _, method, _, level, url = command.split()
    server, _, path = url.removeprefix("http://").partition("/")
    assert ask(server, method, f"/{path}", level).status == 200
    assert "Log level debug" in Seen(ask(called.metrics).read().decode()).text
    assert ask(called.metrics, "PUT", "/log-level", "info").status == 200


async def test_a_server_reads_its_history_until_it_ends() -> None:
    """On a thread that begins with it and ends with it."""
    before = _readers()
    async with started(GatedPacker()) as server:
        assert len(server._history.readings) == 1
        (reader,) = _readers() - before
    reader.join(20)
    assert not reader.is_alive()


def _readers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "history"}
