"""A server as one thing: device, batcher, gRPC and metrics endpoints, built together and drained in order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, start_http_server

from trimtab.v1 import placement_pb2 as pb
from trimtab.v1.placement_pb2_grpc import add_PlacementServiceServicer_to_server
from trimtab.version import __version__
from trimtab_server.batching import Batcher
from trimtab_server.calls import CallInterceptor
from trimtab_server.clock import Clock, SystemClock
from trimtab_server.devices import make_packer, with_fallback
from trimtab_server.engine import AnyAnswer, AnyProblem, Engine
from trimtab_server.metrics import BatchMetrics, Metrics
from trimtab_server.service import PlacementService
from trimtab_server.settings import Settings
from trimtab_server.solvers.cpu_searcher import CpuSearcher
from trimtab_server.solvers.problem import ALGORITHM, Packer

log = structlog.get_logger()

_CONTRACT = pb.DESCRIPTOR.services_by_name["PlacementService"]
SERVICE = _CONTRACT.full_name
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Server:
    """A placement server; make it inside the event loop."""

    def __init__(self, settings: Settings, packer: Packer | None = None, clock: Clock | None = None) -> None:
        """Build everything, listening on nothing yet.

        Args:
            settings: all settings.
            packer: the solver, in place of the one that the settings choose.
            clock: the batcher's time, in place of the machine's.

        Raises:
            DeviceError: the device that the settings ask for is not there.
        """
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._ready: int = _SERVING
        packer = packer or make_packer(settings.device, settings.solver, settings.solver_threads)
        self.address = self.metrics_address = ""
        self.registry = CollectorRegistry()
        self._metrics = Metrics(self.registry)
        self._metrics.expect_calls(SERVICE, _CONTRACT.methods_by_name)
        self._packer = with_fallback(packer, settings.solver_threads, self._fell_back, self._lost_device)
        self.device, self.solver = self._packer.device, self._packer.name
        self._metrics.describe_build(__version__, ALGORITHM, self._packer.name, self.device, self._packer.memory_bytes)
        self._device_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        clock = clock or SystemClock()
        self._engine = Engine(self._packer, CpuSearcher(settings.solver_threads or None))
        self._batcher: Batcher[AnyProblem, AnyAnswer] = Batcher(
            self._engine.solve,
            partial(self._loop.run_in_executor, self._device_thread),
            settings.batch_limits,
            BatchMetrics(self._metrics),
            clock,
        )
        self._service = PlacementService(self._batcher, self._packer, settings, self._metrics, clock)
        self._health = health.aio.HealthServicer()
        self._grpc = self._build_grpc()
        self._http: Any = None

    def _build_grpc(self) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=[CallInterceptor(self._metrics)], options=grpc_options(self._settings.max_message_bytes)
        )
        add_PlacementServiceServicer_to_server(self._service, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    async def start(self) -> None:
        """Listen, warm up, then say SERVING.

        Raises:
            OSError: an address can't be listened on.
        """
        await self._health.set(SERVICE, _NOT_SERVING)
        self._listen_metrics()
        self.address = _bind(self._grpc, self._settings.listen)
        self._batcher.start()
        await self._grpc.start()
        await self._loop.run_in_executor(self._device_thread, self._engine.warm_up)
        await self._health.set(SERVICE, self._ready)  # the warm-up may have lost the device

    def _fell_back(self, reason: str) -> None:
        self._metrics.fallbacks.labels(reason).inc()
        log.warning("the CPU answers for the device", reason=reason, device=self.device)

    def _lost_device(self) -> None:
        """Called on the device thread, once: the device does not come back."""
        log.error("device lost", device=self.device, then=self._settings.on_device_loss)
        if self._settings.on_device_loss == "not-serving":
            self._ready = _NOT_SERVING
            asyncio.run_coroutine_threadsafe(self._health.set(SERVICE, _NOT_SERVING), self._loop)

    def _listen_metrics(self) -> None:
        host, _, port = self._settings.metrics_listen.rpartition(":")
        try:
            self._http, _ = start_http_server(int(port), host.strip("[]"), self.registry)
        except OSError as error:
            raise OSError(f"--metrics-listen {self._settings.metrics_listen}: {error.strerror or error}") from error
        self.metrics_address = f"{host}:{self._http.server_port}"

    async def stop(self) -> None:
        """Say NOT_SERVING, finish what was taken within the grace, end."""
        await self._health.set(SERVICE, _NOT_SERVING)
        with suppress(asyncio.TimeoutError):  # what is left then is told so by stop()
            await asyncio.wait_for(self._batcher.drain(), self._settings.drain_grace)
        await self._batcher.stop()
        await self._grpc.stop(grace=1.0)  # the answers are made; this is for sending them
        self._http.shutdown()
        self._http.server_close()
        self._device_thread.shutdown(wait=False, cancel_futures=True)


def grpc_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options of every gRPC server here: limits, and pings as the client sends them."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        # the client's keepalive pings, every 5 s also while no call runs, are welcome
        ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, not a share of its calls
    ]


def _bind(server: grpc.aio.Server, listen: str) -> str:
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        raise OSError(
            f"--listen {listen}: can't listen there: the address must be one of this machine, and free"
        ) from None
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
