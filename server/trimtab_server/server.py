"""A server as one thing: device, batcher, gRPC and metrics endpoints, built together and drained in order."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import add_PlacementServiceServicer_to_server
from trimtab.version import __version__
from trimtab_server.access import Access, watch_callers
from trimtab_server.batch_log import BatchLog
from trimtab_server.batching import Batcher
from trimtab_server.calls import CallInterceptor
from trimtab_server.clock import Clock, SystemClock
from trimtab_server.connections import allow_open_files, grpc_options, listen_on
from trimtab_server.device_thread import DeviceThread
from trimtab_server.devices import make_packer, with_fallback
from trimtab_server.engine import AnyAnswer, AnyProblem, Engine
from trimtab_server.history import History
from trimtab_server.http_endpoint import HttpEndpoint
from trimtab_server.http_pages import Pages
from trimtab_server.metrics import BatchMetrics, Metrics
from trimtab_server.observer import Observer, Observers
from trimtab_server.recent_solves import RecentSolves
from trimtab_server.service import PlacementService
from trimtab_server.settings import Settings
from trimtab_server.solvers.cpu_searcher import CpuSearcher
from trimtab_server.solvers.placement import REBALANCE_ALGORITHM, Searcher
from trimtab_server.solvers.problem import ALGORITHM, Packer
from trimtab_server.status_page import StatusPage
from trimtab_server.tls import Material, watch_material
from trimtab_server.tracing import make_tracer
from trimtab_server.watched import LOOK_SECONDS, Watched

log = structlog.get_logger()

_CONTRACT = pb.DESCRIPTOR.services_by_name["PlacementService"]
SERVICE = _CONTRACT.full_name
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SENDING_SECONDS = 1.0
"""For answers that are made and have to be sent."""
_ALIVE_SECONDS = 2.0
"""In which an event loop that is alive takes its next turn."""


class Server:
    """A placement server; make it inside the event loop."""

    def __init__(
        self,
        settings: Settings,
        packer: Packer | None = None,
        clock: Clock | None = None,
        searcher: Searcher | None = None,
    ) -> None:
        """Build everything, listening on nothing yet.

        Args:
            settings: all settings.
            packer: the solver, in place of the one that the settings choose.
            clock: the batcher's time, in place of the machine's.
            searcher: what searches placements, in place of the CPU's.

        Raises:
            DeviceError: the device that the settings ask for is not there.
            BrokenFileError: a file that they name can't be used.
            TracingError: what traces need is not installed.
        """
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._ready: int = _SERVING
        self._is_ready = False
        packer = packer or make_packer(settings.device, settings.solver, settings.solver_threads)
        self.address = self.metrics_address = ""
        self.registry = CollectorRegistry()
        self._metrics = Metrics(self.registry, settings.metric_callers)
        self._metrics.expect_calls(SERVICE, _CONTRACT.methods_by_name)
        self._packer = with_fallback(packer, settings.solver_threads, self._fell_back, self._lost_device)
        self.device, self.solver = self._packer.device, self._packer.name
        self._metrics.describe_build(__version__, ALGORITHM, self._packer.name, self.device, self._packer.memory_bytes)
        self._tracer = make_tracer(settings.otlp_endpoint, settings.trace_ratio, settings.trace_rate)
        self._device_thread = DeviceThread(self._metrics.device_busy.inc)
        self._clock = clock = clock or SystemClock()
        self._engine = Engine(self._packer, searcher or CpuSearcher(settings.solver_threads or None))
        self._solves = RecentSolves()
        self._batcher: Batcher[AnyProblem, AnyAnswer] = Batcher(
            self._engine.solve,
            self._device_thread.run,
            settings.batch_limits,
            self._observer(),
            clock,
        )
        self._metrics.expect_queue(self._batcher.room)
        self._history = History(self._metrics, lambda: self._batcher.room.fullness, clock.now)
        self._service = PlacementService(self._batcher, self._packer, settings, self._metrics.answered, clock)
        self._access, self._tls = self._read_files()
        self._health = health.aio.HealthServicer()
        self._grpc = self._build_grpc()
        self._endpoint: HttpEndpoint | None = None
        self._looking: asyncio.Task[None] | None = None

    def _observer(self) -> Observer:
        observers: list[Observer] = [BatchMetrics(self._metrics), self._solves, BatchLog()]
        if self._tracer.observer is not None:
            observers.append(self._tracer.observer)
        return Observers(*observers)

    def _status_page(self) -> StatusPage:
        return StatusPage(
            build={
                "Version": __version__,
                "Solver": self.solver,
                "Device": self.device,
                "Algorithms": f"{ALGORITHM}, {REBALANCE_ALGORITHM}",
            },
            settings=self._settings,
            history=self._history,
            solves=self._solves,
            is_alive=self._is_alive,
            is_ready=lambda: self._is_ready,
            address=lambda: self.metrics_address,
        )

    def _read_files(self) -> tuple[Access, Watched[Material] | None]:
        now, failures = self._clock.now, self._metrics.reload_failures
        callers = watch_callers(self._settings, list(_CONTRACT.methods_by_name), now, failures.labels("callers").inc)
        tls = watch_material(self._settings, now, failures.labels("tls").inc)
        if tls is not None:
            self._metrics.expect_expiry(lambda: tls.current.expires)
        return Access(callers, open_health=self._settings.open_health), tls

    def _build_grpc(self) -> grpc.aio.Server:
        calls = CallInterceptor(self._metrics, self._access, self._tracer, self._settings.receive_timeout)
        server = grpc.aio.server(interceptors=[calls], options=grpc_options(self._settings))
        add_PlacementServiceServicer_to_server(self._service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    async def start(self) -> None:
        """Listen, warm up, then say SERVING; one that fails or is cancelled has to be abandoned.

        Raises:
            OSError: an address can't be listened on.
        """
        await self._say(_NOT_SERVING)
        self._history.start()
        pages = Pages(self.registry, self._is_alive, self._serves, {"/": self._status_page()})
        self._endpoint = HttpEndpoint(self._settings.metrics_listen, pages)
        self.metrics_address = self._endpoint.address
        allow_open_files(self._settings.max_connections)
        self.address = listen_on(self._grpc, self._settings.listen, self._tls)
        await self._grpc.start()
        log.info("warming up", listen=self.address, metrics=self.metrics_address)
        self._looking = asyncio.create_task(self._look_at_files(), name="files")
        await self._device_thread.run(self._engine.warm_up)
        self._batcher.start()  # what came meanwhile has waited, so that no solve is thought to take what a warm-up does
        await self._say(self._ready)  # the warm-up may have lost the device

    async def _say(self, readiness: int) -> None:
        """Whether to send calls here, wherever it is asked."""
        self._is_ready = readiness == _SERVING
        self._metrics.ready.set(self._is_ready)
        await self._health.set(SERVICE, readiness)

    def _is_alive(self) -> bool:
        """Whether the event loop answers; asked on other threads."""
        took_a_turn = threading.Event()
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(took_a_turn.set)
        return took_a_turn.wait(_ALIVE_SECONDS) and not self.stuck.is_set()

    def _serves(self) -> bool:
        """Whether to send calls here; asked on other threads."""
        return self._is_ready and self._is_alive()

    async def _look_at_files(self) -> None:
        """So that a file that is broken is told of when it breaks, and not by the next call."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._access.look_at_file()
            if self._tls is not None:
                self._tls.look()

    def _fell_back(self, reason: str) -> None:
        self._metrics.fallbacks.labels(reason).inc()
        log.warning("the CPU answers for the device", reason=reason, device=self.device)

    def _lost_device(self) -> None:
        """Called on the device thread, once: the device does not come back."""
        log.error("device lost", device=self.device, then=self._settings.on_device_loss)
        if self._settings.on_device_loss == "not-serving":
            self._ready = _NOT_SERVING
            asyncio.run_coroutine_threadsafe(self._say(_NOT_SERVING), self._loop)

    @property
    def stuck(self) -> asyncio.Event:
        """Set when a solve has not come back in time; what is left to do is to `abandon` this server."""
        return self._batcher.stuck

    def log_line_lost(self) -> None:
        """A line of the log could not be written."""
        self._metrics.log_lines_lost.inc()

    async def stop(self) -> None:
        """Say NOT_SERVING, serve on for the pause, take no new work, finish what was taken within the grace, end."""
        await self._say(_NOT_SERVING)
        await self._clock.sleep(self._settings.drain_pause)
        grace = self._settings.drain_grace
        # Nobody can connect any more and those who are connected are told to go, before anything is refused.
        closing = asyncio.ensure_future(self._grpc.stop(grace + _SENDING_SECONDS))
        with suppress(asyncio.TimeoutError):  # what is left then is told so by abandon()
            await asyncio.wait_for(self._batcher.drain(), grace)
        await self.abandon()
        await closing

    async def abandon(self) -> None:
        """End now: what was taken and is not answered gets UNAVAILABLE."""
        await self._say(_NOT_SERVING)
        if self.stuck.is_set():
            await self._health.set("", _NOT_SERVING)
        if self._looking is not None:
            self._looking.cancel()
        await self._batcher.stop()
        await self._grpc.stop(_SENDING_SECONDS)
        self._history.close()
        if self._endpoint is not None:
            await asyncio.to_thread(self._endpoint.close)
            self._endpoint = None
        self._device_thread.close()
        await self._tracer.close()

    @property
    def is_device_busy(self) -> bool:
        """Whether a solve runs; Python's own end waits for it, so a process that can't wait has to exit by force."""
        return self._device_thread.is_busy
