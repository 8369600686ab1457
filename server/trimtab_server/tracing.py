"""What a call notes of itself on its way, for whoever makes traces of it; by default nobody does."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from trimtab_server.jobs import Solved
from trimtab_server.observer import Observer


@dataclass
class CallTrace:
    """One call; moments are nanoseconds of the machine's monotonic clock."""

    trace_id: str
    """In hexadecimal digits, as logs and exemplars have it."""
    is_recorded: bool
    """Whether spans are made of it; else its id is all there is."""
    begun: int
    parent: Any = None
    """The caller's span, of the tracer's own type; None: the caller has none."""
    context: Any = None
    """The call's own span, of the tracer's own type."""
    admitted: int | None = None
    taken: int | None = None
    """When it went from the queue into a batch."""
    solved: Solved[Any] | None = None
    batch: Any = None
    """The span of the batch that it was in, of the tracer's own type."""


call_trace: ContextVar[CallTrace | None] = ContextVar("call_trace", default=None)
"""The trace of the call that is being answered, where it is recorded."""


class Tracer(Protocol):
    """Makes traces of calls."""

    @property
    def observer(self) -> Observer | None:
        """Who has to be told of batches."""
        ...

    def begin(self, metadata: Any) -> CallTrace | None:
        """A call begins, with this metadata; None: nobody traces."""

    def end(self, trace: CallTrace, path: str, code: str, *, caller: str, seconds: float) -> None:
        """A recorded call has ended after so many seconds, and its answer is on its way."""

    async def close(self) -> None:
        """Send what is left, soon."""


class TracingError(Exception):
    """Traces are wanted and can't be made; the message says what is missing."""


class Untraced:
    """Traces nothing."""

    observer = None

    def begin(self, metadata: Any) -> CallTrace | None:  # noqa: ARG002
        """None."""
        return None

    def end(self, trace: CallTrace, path: str, code: str, *, caller: str, seconds: float) -> None:
        """Never called."""

    async def close(self) -> None:
        """Nothing is left."""


def make_tracer(endpoint: str | None, ratio: float, rate: float) -> Tracer:
    """A tracer that sends to a collector, or none.

    Raises:
        TracingError: what that needs is not installed.
    """
    if endpoint is None:
        return Untraced()
    try:
        from trimtab_server.otel import collector_tracer  # noqa: PLC0415  # an extra of its own
    except ImportError:
        raise TracingError("--otlp-endpoint needs what the extra otel brings: pip install 'trimtab[otel]'") from None
    return collector_tracer(endpoint, ratio, rate)
