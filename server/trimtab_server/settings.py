"""All settings: one frozen object, read once from flags and `TRIMTAB_*` variables."""

from __future__ import annotations

import argparse
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, CliImplicitFlag, CliSettingsSource, SettingsConfigDict

from trimtab.channel import MAX_MESSAGE_BYTES
from trimtab.v1 import placement_pb2 as pb
from trimtab.version import __version__
from trimtab_server.batching import BatchLimits
from trimtab_server.checks import RequestLimits
from trimtab_server.solvers.numbers import MAX_ITEMS

_EXAMPLES = """\
examples:
  trimtab-server
      serve on 127.0.0.1:50051, metrics on http://127.0.0.1:9095/metrics
  trimtab-server --listen 0.0.0.0:50051 --metrics-listen 0.0.0.0:9095
      serve to other machines
  TRIMTAB_MAX_BATCH_ROWS=1024 trimtab-server --check-config
      say what the settings come to, and end

Every flag is also a variable: --max-batch-rows is TRIMTAB_MAX_BATCH_ROWS; a flag wins over a variable.
"""
_ADDRESS = re.compile(r"^(?:unix:.+|\[[0-9a-fA-F:]+\]:\d{1,5}|[^:\[\]/\s]+:\d{1,5})$")
_DEVICE = re.compile(r"^(?:auto|cpu|cuda(?::\d{1,3})?)$")
_MAX_PORT = 65535


def _address(value: str) -> str:
    if not _ADDRESS.match(value):
        raise ValueError("must be HOST:PORT, as 127.0.0.1:50051")
    if not value.startswith("unix:") and int(value.rpartition(":")[2]) > _MAX_PORT:
        raise ValueError(f"the port must be at most {_MAX_PORT}")
    return value


def _tcp_address(value: str) -> str:
    if value.startswith("unix:"):
        raise ValueError("must be HOST:PORT, as 127.0.0.1:9095")
    return _address(value)


def _device(value: str) -> str:
    if not _DEVICE.match(value):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return value


class Settings(BaseSettings):
    """The settings of a server."""

    model_config = SettingsConfigDict(
        env_prefix="TRIMTAB_", frozen=True, extra="forbid", cli_kebab_case=True, cli_hide_none_type=True
    )

    listen: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1:50051", description="where to serve gRPC: HOST:PORT (port 0: any free one) or unix:PATH"
    )
    metrics_listen: Annotated[str, AfterValidator(_tcp_address)] = Field(
        "127.0.0.1:9095", description="where to serve /metrics over HTTP: HOST:PORT (port 0: any free one)"
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
        description="most layers x items x restarts in a request (rebalance: windows x slots a GPU); others wait",
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
    max_queue_delay: NonNegativeFloat = Field(
        0.0, allow_inf_nan=False, description="seconds an idle device waits for more requests before it starts"
    )
    drain_grace: NonNegativeFloat = Field(
        20.0, allow_inf_nan=False, description="seconds that running and queued work gets after SIGTERM"
    )
    reflection: CliImplicitFlag[bool] = Field(
        default=True, description="serve gRPC reflection, so that tools can list the API"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level to log")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json lines, plain console lines, or auto: console on a terminal"
    )
    check_config: CliImplicitFlag[bool] = Field(default=False, description="print the settings and end")

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
            max_batch_rows=self.max_batch_rows,
            max_batch_requests=self.max_batch_requests,
            max_queue_delay_seconds=self.max_queue_delay,
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
