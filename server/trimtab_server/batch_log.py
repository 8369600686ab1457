"""What the batcher does, as debug lines of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from trimtab_server.jobs import Job
from trimtab_server.logs import LEVEL
from trimtab_server.observer import Observer

log = structlog.get_logger()


class BatchLog(Observer):
    """Says which calls were solved together, and which were not solved at all."""

    def rejected(self, reason: str) -> None:
        """A job ended without being solved."""
        log.debug("not solved", reason=reason)

    def solved(self, jobs: Sequence[Job[Any, Any]], answers: Sequence[Any], started: float, seconds: float) -> None:  # noqa: ARG002
        """A batch was solved."""
        if LEVEL.lets_through("debug"):
            log.debug(
                "batch",
                operation=jobs[0].problem.operation,
                solver=answers[0].solver,
                requests=len(jobs),
                rows=sum(job.num_rows for job in jobs),
                callers=len({job.caller for job in jobs}),
                seconds=round(seconds, 6),
            )
