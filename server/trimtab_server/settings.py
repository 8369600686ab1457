"""All settings: one frozen object, read once from flags and `TRIMTAB_*` variables."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, CliImplicitFlag, CliSettingsSource, NoDecode, SettingsConfigDict

from trimtab.channel import MAX_MESSAGE_BYTES
from trimtab.credentials import is_local
from trimtab.v1 import placement_pb2 as pb
from trimtab.version import __version__
from trimtab_server import addresses
from trimtab_server.batching import BatchLimits
from trimtab_server.caller_names import NAME_RULE, is_name
from trimtab_server.checks import RequestLimits
from trimtab_server.exit_codes import ExitCode
from trimtab_server.solvers.numbers import MAX_ITEMS

_EXAMPLES = """\
examples:
  trimtab-server
      serve on 127.0.0.1:50051, metrics on http://127.0.0.1:9095/metrics
  trimtab-server --listen 0.0.0.0:50051 --tls-cert server.pem --tls-key server.key --callers-file callers
      serve to other machines, to those callers that the file lists
  trimtab-server --new-token controller
      make a token, and the line that lists its caller
  TRIMTAB_MAX_BATCH_ROWS=1024 trimtab-server --check-config
      say what the settings come to, and end

Every flag is also a variable: --max-batch-rows is TRIMTAB_MAX_BATCH_ROWS; a flag wins over a variable.
"""
_DEVICE = re.compile(r"^(?:auto|cpu|cuda(?::\d{1,3})?)$")


def _device(value: str) -> str:
    if not _DEVICE.match(value):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return value


def _name(value: str | None) -> str | None:
    if value is not None and not is_name(value):
        raise ValueError(NAME_RULE)
    return value


def _names(value: Any) -> Any:
    return [name for name in (part.strip() for part in value.split(",")) if name] if isinstance(value, str) else value


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Settings(BaseSettings):
    """The settings of a server."""

    model_config = SettingsConfigDict(
        env_prefix="TRIMTAB_", frozen=True, extra="forbid", cli_kebab_case=True, cli_hide_none_type=True
    )

    listen: Annotated[str, AfterValidator(addresses.address)] = Field(
        "127.0.0.1:50051", description="where to serve gRPC: HOST:PORT (port 0: any free one) or unix:PATH"
    )
    metrics_listen: Annotated[str, AfterValidator(addresses.tcp_address)] = Field(
        "127.0.0.1:9095",
        description="where to serve HTTP: /metrics, the probes /livez and /readyz, a page at /: HOST:PORT (port 0: any "
        "free one)",
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto", description="where to solve: cpu, cuda, cuda:N, or auto: CUDA where there is one"
    )
    solver: Literal["auto", "torch", "cpu", "cuda"] = Field(
        "auto",
        description="what solves: cpu (compiled), cuda (Triton), torch (either device), or auto: the fastest there",
    )
    solver_threads: NonNegativeInt = Field(0, description="threads of the solver cpu; 0: one a CPU, at most 8")
    on_device_loss: Literal["not-serving", "cpu"] = Field(
        "not-serving",
        description="when a GPU does not come back, readiness turns NOT_SERVING, or the CPU serves on; either answers",
    )
    max_rows: PositiveInt = Field(4096, description="most layers in a request")
    max_items: Annotated[int, Field(gt=0, le=MAX_ITEMS)] = Field(8192, description="most items in a layer")
    max_restarts: PositiveInt = Field(64, description="most restarts in a request")
    max_item_steps: PositiveInt = Field(
        1 << 24,
        description="most layers x items x restarts in a request (rebalance: windows x slots a GPU, or GPUs / 4)",
    )
    max_message_bytes: Annotated[int, Field(gt=0, lt=1 << 31)] = Field(
        MAX_MESSAGE_BYTES, description="most bytes in a message, either way"
    )
    max_queue_rows: PositiveInt = Field(16384, description="most layers that wait; beyond it requests are refused")
    max_queue_bytes: PositiveInt = Field(
        512 << 20, description="most bytes that wait, likewise (twice those of the loads)"
    )
    max_batch_rows: PositiveInt = Field(2048, description="most layers in a batch; a larger request goes alone")
    max_batch_requests: PositiveInt = Field(64, description="most requests in a batch; 1 turns batching off")
    max_batch_seconds: PositiveFloat = Field(
        0.25, allow_inf_nan=False, description="most seconds of work in a batch, so that others' turn comes soon"
    )
    max_queue_seconds: PositiveFloat = Field(
        5.0, allow_inf_nan=False, description="most seconds of work that wait, as measured so far, likewise"
    )
    max_queue_delay: Seconds = Field(0.0, description="seconds an idle device waits for more requests before it starts")
    solve_timeout: Seconds = Field(
        120.0,
        description="seconds after which a solve is taken to be stuck: waiting calls get UNAVAILABLE and the process "
        f"ends with exit code {ExitCode.STUCK}; 0: never",
    )
    receive_timeout: PositiveFloat = Field(
        20.0, allow_inf_nan=False, description="seconds in which a request must have arrived once its call began"
    )
    drain_pause: Seconds = Field(
        0.0, description="seconds after SIGTERM in which new work is still taken: until balancers know"
    )
    drain_grace: Seconds = Field(20.0, description="seconds that running and queued work gets after that")
    max_connections: PositiveInt = Field(16384, description="most connections; others are closed at once")
    max_connection_age: Seconds = Field(
        600.0, description="seconds after which a client is asked to connect anew (a tenth more or less); 0: never"
    )
    max_connection_age_grace: Seconds = Field(30.0, description="seconds that calls get to end on such a connection")
    max_connection_idle: Seconds = Field(
        600.0, description="seconds without a call after which a connection is closed; 0: never"
    )
    max_concurrent_streams: PositiveInt = Field(256, description="most calls at a time on a connection; others wait")
    max_header_bytes: Annotated[int, Field(ge=1024, lt=1 << 24)] = Field(
        16384, description="most bytes in the headers of a call"
    )
    tls_cert: Path | None = Field(
        None, description="certificate chain (PEM) to serve TLS with; read again when the file changes"
    )
    tls_key: Path | None = Field(None, description="its private key (PEM)")
    tls_client_ca: Path | None = Field(
        None, description="certificates (PEM) that must have signed those of clients: mutual TLS"
    )
    allow_plaintext: CliImplicitFlag[bool] = Field(
        default=False,
        description="let --listen be other than loopback without TLS: anyone on the way can read and alter",
    )
    callers_file: Path | None = Field(
        None, description="who may call what: lines of NAME CREDENTIAL RPCS; read again when the file changes"
    )
    metric_callers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = Field(
        (), description="names of callers that metrics may tell apart, as a,b; all others are counted as other"
    )
    open_health: CliImplicitFlag[bool] = Field(
        default=True, description="with --callers-file: let anyone ask for health, as probes do"
    )
    reflection: CliImplicitFlag[bool] = Field(
        default=True, description="serve gRPC reflection, so that tools can list the API"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level to log; PUT /log-level on the HTTP port changes it while it runs"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json lines, plain console lines, or auto: console on a terminal"
    )
    otlp_endpoint: Annotated[str | None, AfterValidator(addresses.collector)] = Field(
        None,
        description="where to send traces: an OpenTelemetry collector's http://HOST:PORT (OTLP over gRPC), or https:",
    )
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="part of calls that are traced, of those whose callers have not decided"
    )
    trace_rate: PositiveFloat = Field(
        100.0, allow_inf_nan=False, description="most calls a second that are traced, whatever their callers decide"
    )
    check_config: CliImplicitFlag[bool] = Field(default=False, description="print the settings and end")
    probe: CliImplicitFlag[bool] = Field(
        default=False, description="ask the server of these settings whether it is ready; exit status 0: it is"
    )
    new_token: Annotated[str | None, AfterValidator(_name)] = Field(
        None, description="print a fresh token for a caller of this name, and its line for --callers-file, and end"
    )

    @model_validator(mode="after")
    def _room_for_one(self) -> Settings:
        for queue, request, times in (("max_queue_rows", "max_rows", 1), ("max_queue_bytes", "max_message_bytes", 2)):
            if getattr(self, queue) < times * getattr(self, request):
                twice = "twice " if times > 1 else ""
                raise ValueError(
                    f"{_flag(queue)} = {getattr(self, queue)} must be at least {twice}{_flag(request)} = "
                    f"{getattr(self, request)}, or a request of that size could never be taken"
                )
        return self

    @model_validator(mode="after")
    def _safe_on_the_wire(self) -> Settings:
        if self.probe or self.new_token is not None:  # serves nothing: a container's --listen is no reason to refuse
            return self
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key belong together: give both, or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.tls_cert is None and not self.allow_plaintext and not is_local(self.listen):
            raise ValueError(
                f"--listen {self.listen} is reached from other machines, where anyone on the way could read and alter "
                "what is said: give --tls-cert and --tls-key, or --allow-plaintext where the network is trusted"
            )
        return self

    @property
    def request_limits(self) -> RequestLimits:
        """What one request may ask for."""
        return RequestLimits(
            self.max_rows, self.max_items, self.max_restarts, self.max_item_steps, self.max_message_bytes
        )

    @property
    def batch_limits(self) -> BatchLimits:
        """What the batcher takes on."""
        return BatchLimits(
            max_queue_rows=self.max_queue_rows,
            max_queue_bytes=self.max_queue_bytes,
            max_batch_seconds=self.max_batch_seconds,
            max_queue_seconds=self.max_queue_seconds,
            max_batch_rows=self.max_batch_rows,
            max_batch_requests=self.max_batch_requests,
            max_queue_delay_seconds=self.max_queue_delay,
            solve_timeout_seconds=self.solve_timeout or None,
        )

    @property
    def limits(self) -> dict[str, int]:
        """Every limit that Describe tells, by name."""
        return {field.name: getattr(self, field.name) for field in pb.Limits.DESCRIPTOR.fields}


class SettingsError(Exception):
    """The settings are wrong; the message says which, why, and what was given."""


def read_settings(arguments: list[str]) -> Settings:
    """The settings from flags, then `TRIMTAB_*` variables, then defaults.

    Raises:
        SettingsError: one line a mistake.
        SystemExit: --help, --version, or a flag that does not exist.
    """
    parser = argparse.ArgumentParser(
        "trimtab-server",
        description="Serve expert placement over gRPC.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"trimtab-server {__version__}")
    source: CliSettingsSource[Any] = CliSettingsSource(Settings, root_parser=parser, cli_parse_args=arguments)
    try:
        return Settings(_cli_settings_source=source)
    except ValidationError as error:
        raise SettingsError("\n".join(_line(mistake) for mistake in error.errors())) from None


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _line(mistake: Any) -> str:
    message = mistake["msg"].removeprefix("Value error, ")
    if not mistake["loc"]:
        return str(message)
    name = str(mistake["loc"][0])
    return f"{_flag(name)} (TRIMTAB_{name.upper()}): {message}, got {mistake['input']!r}"
