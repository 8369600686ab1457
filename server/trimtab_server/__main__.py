"""The composition root: build, serve, drain."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
import uvloop

from trimtab.version import __version__
from trimtab_server.exit_codes import ExitCode
from trimtab_server.settings import Settings, SettingsError, read_settings

log = structlog.get_logger()


def main() -> None:
    """The command `trimtab-server`."""
    try:
        settings = read_settings(sys.argv[1:])
    except SettingsError as error:
        print(f"trimtab-server: {error}\ntrimtab-server --help tells what each setting takes", file=sys.stderr)  # noqa: T201
        sys.exit(ExitCode.USAGE)
    if settings.check_config:
        print(settings.model_dump_json(indent=2, exclude={"check_config"}))  # noqa: T201  # asked for
        return
    # Heavy imports only now: --help and --check-config answer at once
    from trimtab_server.devices import DeviceError  # noqa: PLC0415
    from trimtab_server.logs import configure_logs  # noqa: PLC0415

    configure_logs(settings.log_format, settings.log_level)
    try:
        uvloop.run(serve(settings))  # wakes faster than asyncio's own loop: see docs/benchmarks.md
    except (DeviceError, OSError) as error:
        sys.exit(f"trimtab-server: {error}")


async def serve(settings: Settings) -> None:
    """Build the server, serve until SIGTERM or SIGINT, drain.

    Raises:
        DeviceError: the device asked for is not there.
        OSError: an address can't be listened on.
    """
    from trimtab_server.server import Server  # noqa: PLC0415  # heavy, as in main

    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    server = Server(settings)
    await server.start()
    log.info(
        "serving",
        version=__version__,
        listen=server.address,
        metrics=server.metrics_address,
        solver=server.solver,
        device=server.device,
    )
    await stopping.wait()
    log.info("draining", grace_seconds=settings.drain_grace)
    await server.stop()
    log.info("stopped")


if __name__ == "__main__":
    main()
