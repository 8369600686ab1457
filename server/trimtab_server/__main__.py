"""The composition root: build, serve, drain."""

from __future__ import annotations

# isort: off
import trimtab_server.quiet_grpc  # noqa: F401  # before anything that imports grpc

# isort: on
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from trimtab.version import __version__
from trimtab_server.callers import make_token
from trimtab_server.exit_codes import ExitCode
from trimtab_server.logs import LogSink, configure_logs
from trimtab_server.probe import probe
from trimtab_server.settings import Settings, SettingsError, read_settings
from trimtab_server.tracing import TracingError
from trimtab_server.watched import BrokenFileError

if TYPE_CHECKING:  # heavy, as in main
    from trimtab_server.server import Server

log = structlog.get_logger()


def main() -> None:
    """The command `trimtab-server`."""
    try:
        settings = read_settings(sys.argv[1:])
    except SettingsError as error:
        print(f"trimtab-server: {error}\ntrimtab-server --help tells what each setting takes", file=sys.stderr)  # noqa: T201
        sys.exit(ExitCode.USAGE)
    if settings.new_token is not None:
        _print_token(settings.new_token)
        return
    if settings.probe:
        is_ready, words = probe(settings.metrics_listen)
        print(words)  # noqa: T201  # asked for
        sys.exit(ExitCode.DRAINED if is_ready else ExitCode.FAILED)
    if settings.check_config:
        print(settings.model_dump_json(indent=2, exclude={"check_config", "new_token", "probe"}))  # noqa: T201  # asked for
        return
    gc.disable()  # until it serves: what is imported stays, and looking through it for garbage takes long
    # Heavy imports only now: --help and --check-config answer at once
    from trimtab_server.devices import DeviceError  # noqa: PLC0415

    sink = configure_logs(settings.log_format, settings.log_level)
    try:
        ended = uvloop.run(serve(settings, sink))  # wakes faster than asyncio's own loop: see docs/benchmarks.md
    except (DeviceError, BrokenFileError, TracingError, OSError) as error:
        sink.drain()
        print(f"trimtab-server: {error}", file=sys.stderr)  # noqa: T201  # said to whoever started it
        sys.exit(ExitCode.FAILED)
    finally:
        sink.drain()
    if ended.by_force:
        os._exit(ended.code)
    sys.exit(ended.code)


def _print_token(name: str) -> None:
    """The token and its line, each alone on a line, for a shell to read; what they are, beside it."""
    print(*make_token(name), sep="\n")  # noqa: T201  # asked for
    print("first the token, for the caller alone; then its line for --callers-file", file=sys.stderr)  # noqa: T201


@dataclass(frozen=True)
class Ended:
    """How serving ended."""

    code: ExitCode
    by_force: bool
    """Whether a solve still runs, for which Python's own end would wait."""


async def serve(settings: Settings, sink: LogSink) -> Ended:
    """Build the server, serve until SIGTERM or SIGINT, drain; a second signal ends at once, as does a stuck solve.

    A signal before it serves ends it at once too: nothing was promised to anybody.

    Raises:
        DeviceError: the device asked for is not there.
        BrokenFileError: a file that a setting names can't be used.
        TracingError: what traces need is not installed.
        OSError: an address can't be listened on.
    """
    from trimtab_server.server import Server  # noqa: PLC0415  # heavy, as in main

    stopping, hurried = asyncio.Event(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(
            name, lambda: hurried.set() if stopping.is_set() else stopping.set()
        )
    server = Server(settings)
    sink.on_lost = server.log_line_lost
    try:
        await _first(server.start(), stopping.wait())
        code = await _end_of(server, settings, stopping, hurried) if not stopping.is_set() else ExitCode.DRAINED
    finally:
        await server.abandon()
    return Ended(code, server.is_device_busy)


async def _end_of(server: Server, settings: Settings, stopping: asyncio.Event, hurried: asyncio.Event) -> ExitCode:
    """Serve until something ends it; whoever calls this abandons the server then."""
    gc.freeze()  # and never look through it: neither in the middle of a call, nor at the end
    gc.enable()
    log.info(
        "serving",
        version=__version__,
        listen=server.address,
        metrics=server.metrics_address,
        solver=server.solver,
        device=server.device,
    )
    await _first(stopping.wait(), server.stuck.wait())
    if not server.stuck.is_set():
        log.info("draining", pause_seconds=settings.drain_pause, grace_seconds=settings.drain_grace)
        await _first(server.stop(), hurried.wait(), server.stuck.wait())
    if server.stuck.is_set():
        log.error("a solve is stuck", solve_timeout=settings.solve_timeout, exit_code=int(ExitCode.STUCK))
        return ExitCode.STUCK
    if hurried.is_set():
        log.warning("ended at once", exit_code=int(ExitCode.HURRIED))
        return ExitCode.HURRIED
    log.info("stopped")
    return ExitCode.DRAINED


async def _first(*what: Coroutine[Any, Any, Any]) -> None:
    """Until the first of them is done; the others are cancelled. What it raises is raised."""
    tasks = [asyncio.ensure_future(each) for each in what]
    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in done:
        task.result()


if __name__ == "__main__":
    main()
