"""The options that commands share, declared once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from trimtab.channel import DEFAULT_TARGET, DEFAULT_TIMEOUT_SECONDS, LOCAL
from trimtab.cli.files import Reading
from trimtab.errors import InvalidArgumentError
from trimtab.formats import FORMATS, NAMES
from trimtab.requests import HierarchyName

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

MOST_ITEMS = 65_536
"""No server takes more items in a layer."""
_MOST_SECONDS = 86_400.0

FILE = click.Path(path_type=Path)
SLOTS = click.IntRange(1, MOST_ITEMS)
SEED = click.IntRange(0, 2**64 - 1)


def _check_target(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if value != LOCAL and (":" not in value or any(c.isspace() for c in value)):
        raise click.BadParameter(f"must be HOST:PORT, as {DEFAULT_TARGET}, or {LOCAL}, got {value!r}")
    return value


def above_zero(most: float) -> Callable[[click.Context, click.Parameter, float], float]:
    """What checks that a number is above 0 and at most this."""

    def check(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
        if not 0 < value <= most:  # true for nan too
            raise click.BadParameter(f"must be above 0 and at most {most:g}, got {value:g}")
        return value

    return check


def in_order(*options: Callable[[Any], Any]) -> Callable[[Decorated], Decorated]:
    """One decorator of several options, shown in this order."""

    def decorate(command: Decorated) -> Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_target_options = in_order(
    click.option(
        "--target",
        metavar="HOST:PORT|local",
        default=DEFAULT_TARGET,
        show_default=True,
        callback=_check_target,
        help="The server to ask, or 'local' to solve in this process.",
    ),
    click.option("--tls", is_flag=True, help="Encrypt, and see that the server is who it says."),
    click.option("--ca", metavar="FILE", type=FILE, help="Certificates to know the server by (PEM); means --tls."),
    click.option("--cert", metavar="FILE", type=FILE, help="Your certificate, where the server asks for one (PEM)."),
    click.option("--key", metavar="FILE", type=FILE, help="The private key of --cert (PEM)."),
    click.option("--server-name", metavar="NAME", help="What the server's certificate must say, if not the target."),
    click.option("--token-file", metavar="FILE", type=FILE, help="Holds your token, where the server wants one."),
)


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The server to ask, as `target`, and how to speak to it, as `secure`: further arguments of `Client`."""

    @functools.wraps(command)
    def collected(*, token_file: Path | None, **arguments: Any) -> Any:
        secure = {name: arguments.pop(name) for name in ("tls", "ca", "cert", "key", "server_name")}
        secure["token"] = None if token_file is None else functools.partial(_read_token, token_file)
        return command(secure=secure, **arguments)

    return _target_options(collected)


def _read_token(path: Path) -> str:
    """Read at each call: it may have been renewed."""
    try:
        return path.read_text("ascii").strip()
    except OSError as error:
        raise InvalidArgumentError.of("token", f"{path} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InvalidArgumentError.of("token", f"{path} must hold a token and nothing else") from None


def _read_span(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """The numbers in `3-60`, or in `3` alone; None without a value."""
    if value is None:
        return None
    first, _, last = value.partition("-")
    try:
        numbers = int(first), int(last or first)
    except ValueError:
        numbers = (0, -1)
    if numbers[0] > numbers[1]:
        raise click.BadParameter(f"must be the first and the last layer, as 3-60, got {value!r}")
    return numbers


_reading_options = in_order(
    click.option(
        "--format",
        "format_name",
        type=click.Choice(NAMES),
        help="What wrote LOADS.  [default: told by what is in them]",
    ),
    click.option(
        "--first-layer",
        type=click.IntRange(0),
        help="The model's number of the first layer in LOADS, where they count MoE layers alone, as vLLM's and "
        "vllm-ascend's do.  [default: as the files say, else 0]",
    ),
    click.option(
        "--layers",
        metavar="FIRST-LAST",
        callback=_read_span,
        help="Leave out other layers: dense ones, where the engine wants no rows for them.  [default: all]",
    ),
)


def reading_options(
    max_windows: int | None, *, offered: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """How LOADS are read, as `reading`: keeping so many windows, all where that is None; more only where `offered`."""
    most = click.option(
        "--max-windows",
        type=click.IntRange(1),
        default=max_windows,
        show_default="all" if max_windows is None else True,
        help="Windows to keep: where there are more, neighbours are summed by two until there are no more than these.",
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def collected(
            *,
            format_name: str | None,
            first_layer: int | None,
            layers: tuple[int, int] | None,
            max_windows: int | None = max_windows,
            **arguments: Any,
        ) -> Any:
            return command(reading=Reading(format_name, first_layer, layers, max_windows), **arguments)

        return _reading_options(most(collected) if offered else collected)

    return decorate


output_format_option = click.option(
    "--output-format",
    type=click.Choice([name for name in NAMES if FORMATS[name].PLACEMENT_ENDINGS]),
    help="Whose format a placement is written in.  [default: by the ending: .json SGLang, .yaml TensorRT-LLM, "
    "expert_map.json vllm-ascend]",
)
timeout_option = click.option(
    "--timeout",
    metavar="SECONDS",
    type=float,
    default=DEFAULT_TIMEOUT_SECONDS,
    show_default=True,
    callback=above_zero(_MOST_SECONDS),
    help="How long to wait for an answer.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")

effort_options = in_order(
    click.option("--restarts", "num_restarts", type=int, help="Orderings tried per layer.  [default: the server's]"),
    click.option("--refine/--no-refine", default=True, show_default=True, help="Improve each by swaps."),
    click.option("--target-gap", type=float, help="A gap to the bound that is good enough.  [default: the server's]"),
    click.option("--seed", type=SEED, default=0, show_default=True, help="Chooses the noise."),
)
"""How to search; their names are those of the client."""

cluster_options = in_order(
    click.option("--gpus", "num_gpus", type=SLOTS, help="GPUs, inactive ones too.  [default: as the files say]"),
    click.option(
        "--replicas",
        "num_replicas",
        type=SLOTS,
        help="Slots per layer; GPUs divide them.  [default: those of the placement in force]",
    ),
    click.option("--nodes", "num_nodes", type=int, default=1, show_default=True, help="Nodes; they divide the GPUs."),
    click.option(
        "--groups", "num_groups", type=int, default=1, show_default=True, help="Groups; they divide the experts."
    ),
    click.option(
        "--hierarchy",
        type=click.Choice(get_args(HierarchyName)),
        default="automatic",
        show_default=True,
        help="Keep groups on a node: where it can be, never, or always.",
    ),
)
"""What experts are placed on; their names are those of the client."""


def read_gpus(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[int]:
    """The numbers in `3,7`; none without a value."""
    try:
        return [] if value is None else [int(number) for number in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"must be GPUs by number, as 3,7, got {value!r}") from None


def read_speeds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> dict[int, float]:
    """The speeds in `3=0.5,7=0.8`, by GPU; none without a value."""
    try:
        pairs = [entry.split("=") for entry in value.split(",")] if value is not None else []
        speeds = {int(gpu): float(speed) for gpu, speed in pairs}
    except ValueError:  # no number, or not two parts
        raise click.BadParameter(f"must be speeds by GPU, as 3=0.5,7=0.8, got {value!r}") from None
    if len(speeds) < len(pairs):
        raise click.BadParameter(f"must name each GPU once, got {value!r}")
    return speeds
