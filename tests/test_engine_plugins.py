"""What the plug-ins of all engines share: settings, counts and what is said of them, what can be searched from."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from tests.command import NOBODY
from tests.fakes import FakeClock
from trimtab.engines.outcomes import QUIET_SECONDS, Outcomes
from trimtab.engines.question import Question
from trimtab.engines.settings import Settings
from trimtab.errors import InvalidArgumentError

LOGGER = logging.getLogger("engine")


def read(**variables: str) -> Settings | None:
    """Settings of these variables of vLLM's plug-in."""
    return Settings.read("vLLM", {f"TRIMTAB_VLLM_{name}": value for name, value in variables.items()})


def test_settings_are_read_of_the_environment(tmp_path: Path) -> None:
    """Every variable has its setting; other variables, another engine's and empty ones are none."""
    token = tmp_path / "token"
    token.write_text("abc\n")
    environment = {
        "TRIMTAB_VLLM_TARGET": NOBODY,
        "TRIMTAB_VLLM_TIMEOUT": "0.5",
        "TRIMTAB_VLLM_MAX_MOVES": "1800",
        "TRIMTAB_VLLM_MIN_GAIN": "0.01",
        "TRIMTAB_VLLM_TOKEN_FILE": str(token),
        "TRIMTAB_VLLM_CA": "",
        "TRIMTAB_SGLANG_MAX_MOVES": "few",
        "TRIMTAB_LISTEN": "0.0.0.0:50051",
    }
    wanted = Settings("vLLM", NOBODY, timeout=0.5, max_moves=1800, min_gain=0.01, token_file=str(token))
    assert Settings.read("vLLM", environment) == wanted
    assert Settings.read("SGLang", environment) is None


_OR_SEEN = "or to this machine alone, or others could read it on its way to far:1: turn TLS on, by tls or ca"
_ALL = ", ".join(
    f"TRIMTAB_VLLM_{name}" for name in ("TARGET", "TIMEOUT", "MAX_MOVES", "MIN_GAIN", "CA", "CERT", "KEY", "TOKEN_FILE")
)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TARGET": "local"}, "TARGET: must be HOST:PORT of a server, or a gRPC name, got 'local'"),
        ({"TIMEOUT": "soon"}, "TIMEOUT: must be seconds, more than 0 and at most 60, got 'soon'"),
        ({"TIMEOUT": "0"}, "TIMEOUT: must be seconds, more than 0 and at most 60, got '0'"),
        ({"TIMEOUT": "nan"}, "TIMEOUT: must be seconds, more than 0 and at most 60, got 'nan'"),
        ({"TIMEOUT": "61"}, "TIMEOUT: must be seconds, more than 0 and at most 60, got '61'"),
        ({"MAX_MOVES": "-1"}, "MAX_MOVES: must be a whole number, at least 0, got '-1'"),
        ({"MAX_MOVES": "1.5"}, "MAX_MOVES: must be a whole number, at least 0, got '1.5'"),
        ({"MIN_GAIN": "2"}, "MIN_GAIN: must be a balancedness, from 0 to 1, got '2'"),
        ({"CA": "/nowhere"}, "CA: /nowhere can't be read: No such file or directory"),
        ({"CERT": "/nowhere"}, "CERT: cert and key belong together: give both"),
        ({"TOKEN_FILE": "/nowhere"}, "TOKEN_FILE: /nowhere can't be read: No such file or directory"),
        ({"TOKEN_FILE": "/dev/null"}, "TOKEN_FILE: must be printable ASCII characters without spaces"),
        ({"TARGET": "far:1", "TOKEN_FILE": "/dev/null"}, f"TOKEN_FILE: is sent over TLS {_OR_SEEN}"),
        ({"MAXMOVES": "1"}, f"MAXMOVES: is no setting; there are {_ALL}"),
    ],
)
def test_a_mistake_in_the_settings_is_named(variables: dict[str, str], message: str) -> None:
    """The message says which variable, the rule and what was given."""
    with pytest.raises(InvalidArgumentError) as raised:
        read(**{"TARGET": NOBODY, **variables})
    assert str(raised.value) == f"TRIMTAB_VLLM_{message}"


def test_a_failure_that_repeats_is_counted_and_said_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """The first is a warning, the same ones after it are silent for a while; another one is not; the end is said."""
    caplog.set_level(logging.INFO)
    clock = FakeClock()
    outcomes = Outcomes(LOGGER, clock.now)
    for _ in range(100):
        outcomes.kept("unavailable", "nobody there")
    outcomes.kept("expired", "too late")
    clock.advance(QUIET_SECONDS)
    outcomes.kept("unavailable", "nobody there")
    outcomes.kept("no load", "no load yet", failure=False)
    outcomes.placed("5 moves")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "trimtab: nobody there (unavailable, 1 of 1 rebalances; not said again for 600 s)"),
        ("WARNING", "trimtab: too late (expired, 1 of 101 rebalances; not said again for 600 s)"),
        ("WARNING", "trimtab: nobody there (unavailable, 101 of 102 rebalances; not said again for 600 s)"),
        ("INFO", "trimtab: of 102 rebalances: unavailable 101, expired 1"),
        ("INFO", "trimtab: no load yet (no load, 1 of 103 rebalances; not said again for 600 s)"),
        ("INFO", "trimtab answers again, after 102 rebalances without it"),
        ("INFO", "trimtab: 5 moves"),
    ]
    assert outcomes.counts == {"unavailable": 101, "expired": 1, "no load": 1, "placed": 1}


def question(previous: np.ndarray | None, *, hierarchy: str = "automatic", num_nodes: int = 2) -> Question:
    """Two groups of two experts each, in six slots of two GPUs."""
    load = np.ones((len(previous) if previous is not None else 1, 4))
    return Question(load, 6, 2, num_nodes, 2, previous, hierarchy)  # type: ignore[arg-type]  # one of its names


WHOLE = np.array([[0, 1, 0, 2, 3, 2]])


@pytest.mark.parametrize(
    ("previous", "start"),
    [
        (None, None),
        (WHOLE, WHOLE),
        (WHOLE[:, :5], np.array([[0, 1, 0, 2, 3, -1]])),
        (np.array([[0, 1, 2, 3, 0, 1, 2, 3]]), np.array([[0, 1, 2, 3, 0, 1]])),
        (WHOLE[:, :4], None),
        (np.array([[0, 1, 0, 2, 2, -1]]), None),
        (np.array([[0, 1, 0, 2, 3, 4]]), None),
    ],
    ids=["nothing", "all", "fewer slots", "more slots", "fewer, and an expert lost", "an expert lost", "too many"],
)
def test_what_a_search_starts_from(previous: np.ndarray | None, start: np.ndarray | None) -> None:
    """The placement in force, with as many slots as there will be, unless an expert is on none of them."""
    asked = question(previous)
    np.testing.assert_array_equal(asked.start, start)
    assert (asked.in_force is previous) == (previous is None or previous is WHOLE)


@pytest.mark.parametrize(
    ("asked", "broken_up"),
    [
        (question(WHOLE), False),
        (question(np.array([[0, 1, 0, 2, 3, -1]])), False),
        (question(np.array([[0, 1, 0, 2, 3, 1]])), True),
        (question(np.array([[0, 1, 0, 2, 3, 2], [0, 2, 1, 3, 2, 2]])), True),
        (question(np.array([[0, 1, 0, 2, 3, 1]]), hierarchy="global"), False),
        (question(np.array([[0, 1, 0, 2, 3, 1]]), num_nodes=1), False),
        (question(np.array([[0, 1, 0, 2, 3, 1]]), num_nodes=3), False),
        (question(None), False),
    ],
)
def test_groups_that_are_spread_over_nodes(asked: Question, broken_up: bool) -> None:
    """It is seen in any layer, where groups are to stay on nodes at all."""
    assert asked.breaks_up_groups == broken_up
