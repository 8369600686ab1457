"""Every query of the dashboards, asked of a real Prometheus that scrapes a real server at work."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import trimtab
from tests.kept_venv import ROOT
from tests.secure import TOKEN, Certificates, digest
from tests.system.prometheus_server import JOB, Prometheus, metrics_in, rules, running_prometheus
from trimtab.cli.server_process import ServerProcess, running_server

MOST_LAYERS, CALLERS = 16, 5
WEIGHT = np.random.default_rng(0).lognormal(size=(MOST_LAYERS, 256))
LOAD, PREVIOUS = [[4.0, 1.0, 4.0, 1.0]], [[0, 2, 1, 3]]
WINDOW = "5s"
ANSWER_SECONDS = 10.0
NOTHING_BEFORE_CALLS = {
    "Pack: time to answer",
    "Rebalance: time to answer",
    "Time to answer, whole job",
    "Wait in the queue",
    "Solve time (p95)",
    "Solve time for a layer",
    "Solve times",
    "Batch size (mean)",
    "Rebalance: before",
    "Rebalance: after",
    "Rebalance: mean balancedness",
    "Pack: before",
    "Pack: after",
    "Pack: mean balancedness",
    "Moves",
    "Layers changed",
    "Gain for a thousand moves",
    "Layers won, by kind of restart",
}
"""Panels about answers, of which a server that was never called has none."""


class Question(NamedTuple):
    """A query of a panel."""

    dashboard: str
    row: str
    panel: str
    expression: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}"


def questions() -> list[Question]:
    """All of them."""
    found = []
    for path in sorted((ROOT / "deploy" / "grafana").glob("*.json")):
        row = ""
        for panel in json.loads(path.read_text())["panels"]:
            row = panel["title"] if panel["type"] == "row" else row
            found += [Question(path.stem, row, panel["title"], each["expr"]) for each in panel.get("targets", ())]
    return found


QUESTIONS = questions()


def asked(expression: str, instance: str = ".*") -> str:
    """A query as Grafana sends it, for the job of the tests."""
    filled = expression.replace("$job", JOB).replace("$instance", instance).replace("$__rate_interval", WINDOW)
    assert "$" not in filled, f"a variable that the dashboards don't have: {filled}"
    return filled


@contextmanager
def secured_server(folder: Path) -> Iterator[tuple[ServerProcess, Certificates]]:
    """A server with certificates and one caller, and room for few layers."""
    certificates = Certificates(folder)
    (folder / "callers").write_text(f"controller {digest(TOKEN)} *\n")
    flags = [*certificates.flags, f"--callers-file={folder / 'callers'}", "--metric-callers=controller"]
    flags += [f"--max-rows={MOST_LAYERS}", f"--max-queue-rows={MOST_LAYERS}"]
    with running_server(*flags) as server:
        yield server, certificates


def work(client: trimtab.Client) -> None:
    """A call of each kind, of a size that leaves the queue no room for another."""
    client.pack(WEIGHT, 4, num_restarts=32)
    client.rebalance(LOAD, num_gpus=2, num_replicas=4, previous=PREVIOUS)
    client.describe()
    with pytest.raises(trimtab.InvalidArgumentError):
        client.pack([[1.0, 2.0, 3.0]], 2)


@contextmanager
def at_work(server: ServerProcess, certificates: Certificates) -> Iterator[None]:
    """For as long as this lasts, the server is called by more than it has room for, and by a stranger."""
    done = threading.Event()
    ca = certificates.trusted

    def keep_calling(call: Callable[[trimtab.Client], Any], **who: Any) -> None:
        with trimtab.Client(server.listen, ca=ca, **who) as client:
            while not done.wait(0.02):
                with suppress(trimtab.OverloadedError, trimtab.UnauthenticatedError):
                    call(client)

    callers = [threading.Thread(target=keep_calling, args=(work,), kwargs={"token": TOKEN}) for _ in range(CALLERS)]
    callers.append(threading.Thread(target=keep_calling, args=(trimtab.Client.describe,)))
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        done.set()
        for caller in callers:
            caller.join()


class Watched(NamedTuple):
    """A server at work, and a Prometheus that has seen it work for some seconds."""

    server: ServerProcess
    prometheus: Prometheus
    before: dict[Question, dict[str, float]]
    """What the queries gave before the first call."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One for all tests, as each start takes seconds."""
    folder = tmp_path_factory.mktemp("watched")
    with secured_server(folder) as (server, certificates), running_prometheus(folder, server.metrics) as prometheus:
        prometheus.wait_for("instance:trimtab_device_utilisation:ratio_5m")
        before = {question: prometheus.values(asked(question.expression)) for question in QUESTIONS}
        with at_work(server, certificates):
            prometheus.wait_for("job:trimtab_slow_packs:ratio_6h")
            yield Watched(server, prometheus, before)


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_every_query_is_answered(question: Question, watched: Watched) -> None:
    """With numbers, for all instances, and for the one that there is."""
    server, prometheus, _ = watched
    instance = re.escape(server.metrics).replace("\\", "\\\\")
    assert prometheus.wait_for(asked(question.expression), ANSWER_SECONDS)
    assert prometheus.wait_for(asked(question.expression, instance), ANSWER_SECONDS)


def test_no_other_instance_is_shown(watched: Watched) -> None:
    """What is not about the whole job is about the chosen instances alone."""
    prometheus = watched.prometheus
    for question in QUESTIONS:
        if "$instance" in question.expression and not question.expression.endswith("vector(0)"):
            assert not prometheus.values(asked(question.expression, "none")), question


def test_figures_are_those_of_the_work(watched: Watched) -> None:
    """What can be known of them beforehand: who calls, what fails, what is ready, what a rebalance moves."""
    prometheus = watched.prometheus
    first_of = {(each.dashboard, each.panel): each.expression for each in reversed(QUESTIONS)}

    def shown(dashboard: str, panel: str) -> dict[str, float]:
        return prometheus.wait_for(asked(first_of[dashboard, panel]), ANSWER_SECONDS)

    assert shown("overview", "Ready servers") == {"": 1}
    assert shown("overview", "Calls by caller").keys() == {"controller", "other"}
    assert {"invalid", "overloaded", "unauthenticated"} <= shown("overview", "Refusals by reason").keys()
    (failed,) = shown("overview", "Failed calls").values()
    assert 0 < failed < 1
    assert list(shown("overview", "Versions").values()) == [1]
    assert trimtab.__version__ in next(iter(shown("overview", "Versions")))
    (days,) = shown("overview", "Certificates expire in").values()
    assert days > 0
    (moves,) = shown("quality", "Moves").values()
    assert moves == pytest.approx(2)


def test_every_metric_has_its_place_and_no_other_is_asked_for(watched: Watched) -> None:
    """What the server exposes is on a panel or in a rule; what they ask for is exposed or recorded."""
    server = watched.server
    exposed: dict[str, set[str]] = {
        family.name: {sample.name for sample in family.samples}
        for family in text_string_to_metric_families(server.scrape())
    }
    recorded = {rule["record"] for rule in rules("record")}
    expressions = [question.expression for question in QUESTIONS]
    expressions += [rule["expr"] for rule in rules("alert") + rules("record")]
    wanted = {name for expression in expressions for name in metrics_in(expression)}
    assert not wanted - recorded - {name for names in exposed.values() for name in names}
    assert not [family for family, names in exposed.items() if not names & wanted]
    assert not recorded - wanted


def test_the_variables_find_what_there_is(watched: Watched) -> None:
    """The choices that the dashboards offer: the job, and the server."""
    server, prometheus, _ = watched
    offered: dict[str, Any] = {}
    for path in (ROOT / "deploy" / "grafana").glob("*.json"):
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]  # else the test fails here
                found = prometheus.get(f"label/{label}/values", **{"match[]": series.replace("$job", JOB)})
                assert offered.setdefault(variable["name"], found) == found
    assert offered == {"job": [JOB], "instance": [server.metrics]}


def test_a_server_that_was_never_called_shows_zeros(watched: Watched) -> None:
    """Panels are not empty where nothing has happened, but for those about answers."""
    empty = {question.panel for question, values in watched.before.items() if not values}
    assert not empty - NOTHING_BEFORE_CALLS


def test_no_alert_fires_where_all_is_well(watched: Watched) -> None:
    """But for the one that this test's refusals deserve, and the one of a certificate."""
    prometheus = watched.prometheus
    firing = {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}
    assert firing <= {"TrimtabAvailabilityFastBurn", "TrimtabAvailabilitySlowBurn"}
