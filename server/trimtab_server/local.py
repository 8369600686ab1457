"""The service without a server: requests solved in the caller's own process, with the same checks and bytes."""

from __future__ import annotations

import threading
import time
from typing import Any

from trimtab.errors import TrimtabError
from trimtab.v1 import placement_pb2 as pb
from trimtab_server import contract, rebalance_contract
from trimtab_server.devices import DeviceError, make_packer, with_fallback
from trimtab_server.engine import Engine
from trimtab_server.jobs import Solved
from trimtab_server.settings import SettingsError, read_settings
from trimtab_server.solvers.cpu_searcher import CpuSearcher


class LocalStub:
    """Looks like the generated stub and solves at once; raises the errors of `trimtab.errors`."""

    def __init__(self) -> None:
        """Take the settings from `TRIMTAB_*` variables, and the device that they ask for.

        Raises:
            TrimtabError: a setting is wrong, or the device is not there.
        """
        try:
            self._settings = settings = read_settings([])
            packer = make_packer(settings.device, settings.solver, settings.solver_threads)
        except (SettingsError, DeviceError) as error:
            raise TrimtabError(f"target 'local': {error}") from None
        self._packer = with_fallback(packer, settings.solver_threads, lambda _reason: None, lambda: None)
        self._engine = Engine(self._packer, CpuSearcher(settings.solver_threads or None))
        self._solving = threading.Lock()  # as a server does: one solve at a time on the device

    def Pack(self, request: pb.PackRequest, **_: Any) -> pb.PackResponse:
        """As the RPC; the timeout is not kept, since nothing is waited for."""
        problem, _priority = contract.read_pack(request, self._settings.request_limits)
        return contract.write_pack(self._solve(problem))

    def Rebalance(self, request: pb.RebalanceRequest, **_: Any) -> pb.RebalanceResponse:
        """As the RPC, likewise."""
        problem, _priority = rebalance_contract.read_rebalance(request, self._settings.request_limits)
        return rebalance_contract.write_rebalance(self._solve(problem))

    def _solve(self, problem: Any) -> Solved[Any]:
        arrived = time.monotonic()
        with self._solving:
            started = time.monotonic()
            (answer,) = self._engine.solve([problem])
        return Solved(answer, started, started - arrived, time.monotonic() - started, 1, problem.num_rows)

    def Describe(self, request: pb.DescribeRequest, **_: Any) -> pb.DescribeResponse:  # noqa: ARG002
        """As the RPC."""
        return contract.write_description(self._packer, self._settings.limits)
