"""Settings: flags, variables, defaults, and one row a mistake with its exact words."""

import json
import subprocess
import sys

import pytest

from trimtab_server.settings import Settings, SettingsError, read_settings


def test_defaults_are_the_documented_ones() -> None:
    """Loopback, the documented ports, the contract's defaults."""
    settings = read_settings([])
    assert (settings.listen, settings.metrics_listen) == ("127.0.0.1:50051", "127.0.0.1:9095")
    assert settings.limits["max_message_bytes"] == 64 << 20
    assert settings.batch_limits.max_queue_delay_seconds == 0


def test_a_flag_wins_over_a_variable_over_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """In that order."""
    monkeypatch.setenv("TRIMTAB_MAX_BATCH_ROWS", "7")
    monkeypatch.setenv("TRIMTAB_MAX_RESTARTS", "9")
    settings = read_settings(["--max-batch-rows", "8"])
    assert (settings.max_batch_rows, settings.max_restarts, settings.max_items) == (8, 9, 8192)


def test_settings_are_frozen() -> None:
    """Read once, and then they stand."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().max_rows = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "50051"], "--listen (TRIMTAB_LISTEN): must be HOST:PORT, as 127.0.0.1:50051, got '50051'"),
        (["--listen", "h:99999"], "--listen (TRIMTAB_LISTEN): the port must be at most 65535, got 'h:99999'"),
        (
            ["--metrics-listen", "unix:/x"],
            "--metrics-listen (TRIMTAB_METRICS_LISTEN): must be HOST:PORT, as 127.0.0.1:9095, got 'unix:/x'",
        ),
        (
            ["--otlp-endpoint", "127.0.0.1:4317"],
            (
                "--otlp-endpoint (TRIMTAB_OTLP_ENDPOINT): must be http://HOST:PORT or https://HOST:PORT, as"
                " http://127.0.0.1:4317, got '127.0.0.1:4317'"
            ),
        ),
        (
            ["--otlp-endpoint", "http://collector:99999"],
            "--otlp-endpoint (TRIMTAB_OTLP_ENDPOINT): the port must be at most 65535, got 'http://collector:99999'",
        ),
        (
            ["--trace-ratio", "2"],
            "--trace-ratio (TRIMTAB_TRACE_RATIO): Input should be less than or equal to 1, got '2'",
        ),
        (
            ["--device", "tpu"],
            "--device (TRIMTAB_DEVICE): must be auto, cpu, cuda or cuda:N, got 'tpu'",
        ),
        (["--device", "cuda:"], "--device (TRIMTAB_DEVICE): must be auto, cpu, cuda or cuda:N, got 'cuda:'"),
        (["--device", "cuda:-1"], "--device (TRIMTAB_DEVICE): must be auto, cpu, cuda or cuda:N, got 'cuda:-1'"),
        (
            ["--solver", "numba"],
            "--solver (TRIMTAB_SOLVER): Input should be 'auto', 'torch', 'cpu' or 'cuda', got 'numba'",
        ),
        (
            ["--solver-threads", "-1"],
            "--solver-threads (TRIMTAB_SOLVER_THREADS): Input should be greater than or equal to 0, got '-1'",
        ),
        (
            ["--on-device-loss", "retry"],
            "--on-device-loss (TRIMTAB_ON_DEVICE_LOSS): Input should be 'not-serving' or 'cpu', got 'retry'",
        ),
        (
            ["--max-rows", "0"],
            "--max-rows (TRIMTAB_MAX_ROWS): Input should be greater than 0, got '0'",
        ),
        (
            ["--max-items", "70000"],
            "--max-items (TRIMTAB_MAX_ITEMS): Input should be less than or equal to 65536, got '70000'",
        ),
        (
            ["--max-batch-rows", "many"],
            (
                "--max-batch-rows (TRIMTAB_MAX_BATCH_ROWS): Input should be a valid integer, unable to parse string"
                " as an integer, got 'many'"
            ),
        ),
        (
            ["--max-queue-delay", "nan"],
            "--max-queue-delay (TRIMTAB_MAX_QUEUE_DELAY): Input should be a finite number, got 'nan'",
        ),
        (
            ["--log-level", "loud"],
            "--log-level (TRIMTAB_LOG_LEVEL): Input should be 'debug', 'info', 'warning' or 'error', got 'loud'",
        ),
        (["--tls-cert", "x"], "--tls-cert and --tls-key belong together: give both, or neither"),
        (["--tls-key", "x"], "--tls-cert and --tls-key belong together: give both, or neither"),
        (["--tls-client-ca", "x"], "--tls-client-ca needs --tls-cert and --tls-key"),
        *(
            (
                ["--listen", address],
                (
                    f"--listen {address} is reached from other machines, where anyone on the way could read and alter"
                    " what is said: give --tls-cert and --tls-key, or --allow-plaintext where the network is trusted"
                ),
            )
            for address in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "placement:1", "localhost.example.org:1")
        ),
        (
            ["--new-token", "two words"],
            (
                "--new-token (TRIMTAB_NEW_TOKEN): must be 1 to 128 printable ASCII characters without spaces, the first"
                " not #, got 'two words'"
            ),
        ),
        (
            ["--max-header-bytes", "10"],
            "--max-header-bytes (TRIMTAB_MAX_HEADER_BYTES): Input should be greater than or equal to 1024, got '10'",
        ),
        (
            ["--max-header-bytes", "99999999"],
            "--max-header-bytes (TRIMTAB_MAX_HEADER_BYTES): Input should be less than 16777216, got '99999999'",
        ),
        (
            ["--receive-timeout", "0"],
            "--receive-timeout (TRIMTAB_RECEIVE_TIMEOUT): Input should be greater than 0, got '0'",
        ),
        (
            ["--receive-timeout", "inf"],
            "--receive-timeout (TRIMTAB_RECEIVE_TIMEOUT): Input should be a finite number, got 'inf'",
        ),
        (
            ["--max-connections", "0"],
            "--max-connections (TRIMTAB_MAX_CONNECTIONS): Input should be greater than 0, got '0'",
        ),
        (
            ["--max-concurrent-streams", "0"],
            "--max-concurrent-streams (TRIMTAB_MAX_CONCURRENT_STREAMS): Input should be greater than 0, got '0'",
        ),
        (
            ["--max-connection-age", "-1"],
            "--max-connection-age (TRIMTAB_MAX_CONNECTION_AGE): Input should be greater than or equal to 0, got '-1'",
        ),
        (
            ["--max-connection-idle", "nan"],
            "--max-connection-idle (TRIMTAB_MAX_CONNECTION_IDLE): Input should be a finite number, got 'nan'",
        ),
        (
            ["--max-rows", "20000"],
            (
                "--max-queue-rows = 16384 must be at least --max-rows = 20000, or a request of that size could never be"
                " taken"
            ),
        ),
        (
            ["--max-queue-bytes", "1000"],
            (
                "--max-queue-bytes = 1000 must be at least twice --max-message-bytes = 67108864, or a request of that"
                " size could never be taken"
            ),
        ),
    ],
)
def test_a_mistake_is_named_exactly(arguments: list[str], message: str) -> None:
    """Flag, variable, rule, and what was given."""
    with pytest.raises(SettingsError) as caught:
        read_settings(arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen", "127.8.9.1:1"],
        ["--listen", "[::1]:1"],
        ["--listen", "localhost:1"],
        ["--listen", "unix:/run/trimtab"],
        ["--listen", "0.0.0.0:1", "--allow-plaintext"],
        ["--listen", "0.0.0.0:1", "--tls-cert", "x", "--tls-key", "y"],
        ["--listen", "0.0.0.0:1", "--tls-cert", "x", "--tls-key", "y", "--tls-client-ca", "z"],
    ],
)
def test_what_nobody_else_can_read_is_served(arguments: list[str]) -> None:
    """This machine, TLS, or an operator who says that it is meant."""
    assert read_settings(arguments).listen == arguments[1]


def test_names_of_callers_are_joined_by_commas() -> None:
    """As a flag or a variable."""
    assert read_settings(["--metric-callers", "a, b,,c"]).metric_callers == ("a", "b", "c")


def test_all_mistakes_are_told_at_once() -> None:
    """A line each."""
    with pytest.raises(SettingsError) as caught:
        read_settings(["--max-rows", "0", "--max-items", "-1"])
    assert len(str(caught.value).splitlines()) == 2


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trimtab_server", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_check_config_prints_what_the_settings_come_to() -> None:
    """As JSON, with exit status 0, and serves nothing."""
    result = run("--check-config", "--max-rows", "99")
    assert result.returncode == 0
    assert json.loads(result.stdout)["max_rows"] == 99


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-rows", "0"), "--max-rows (TRIMTAB_MAX_ROWS)"),
        (("--no-such-flag",), "unrecognized arguments: --no-such-flag"),
        (("--device", "cuda:31", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"), "CUDA devices here"),
        (("--listen", "127.0.0.1:0", "--metrics-listen", "203.0.113.7:1"), "--metrics-listen 203.0.113.7:1"),
        (("--listen", "203.0.113.7:1", "--metrics-listen", "127.0.0.1:0"), "--listen 203.0.113.7:1"),
    ],
)
def test_a_server_that_cannot_start_says_why_and_ends(arguments: tuple[str, ...], words: str) -> None:
    """One clear message, a failing status, no traceback."""
    result = run(*arguments)
    assert result.returncode != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_help_shows_every_setting_and_examples() -> None:
    """A description beside each flag."""
    result = run("--help")
    assert result.returncode == 0
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in result.stdout
        assert field.description
    assert "examples:" in result.stdout
