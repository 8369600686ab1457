"""Structured logs: JSON lines for machines, plain lines for a terminal.

Nothing that is the matter with whoever reads the log (a closed pipe, a full disk, a reader that has stopped reading)
may hold up or fail a call: lines are written by a thread of their own, and lost where it can't keep up.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import structlog

_MOST_LINES = 10_000
"""Lines that wait to be written: some megabytes."""
_LINES_AT_ONCE = 100
_GATHER_SECONDS = 0.01
_DRAIN_SECONDS = 1.0
_MOST_FRAMES = 8


LEVELS = ("debug", "info", "warning", "error")
_NUMBERS = {name: getattr(logging, name.upper()) for name in LEVELS}


class LogSink:
    """A text stream that never blocks and never fails; structlog and logging write to it."""

    def __init__(self, stream: TextIO) -> None:
        self._descriptor = stream.fileno()
        self._lines: deque[str] = deque()
        self._arrived = threading.Event()
        self._is_writing = False
        self._pause = threading.Event()  # never set: to wait for it is to sleep, whatever the date does
        self.on_lost: Callable[[], None] = lambda: None
        """Called, on any thread, for each line that is not written."""
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def write(self, text: str) -> int:
        """Have text written, soon."""
        if len(self._lines) >= _MOST_LINES:
            self.on_lost()
        else:
            self._lines.append(text)
            if not self._arrived.is_set():
                self._arrived.set()
        return len(text)

    def flush(self) -> None:
        """Nothing: text is on its way as soon as it is written."""

    def drain(self) -> None:
        """Wait until all is written, at most a second: the end of the process must not hang on a reader."""
        end = time.monotonic() + _DRAIN_SECONDS
        while (self._arrived.is_set() or self._is_writing) and time.monotonic() < end:
            self._pause.wait(_GATHER_SECONDS)

    def _write_all(self) -> None:
        while True:
            self._arrived.wait()
            self._pause.wait(_GATHER_SECONDS)  # lines that come close together are one write, and wake this thread once
            self._is_writing = True  # before the event is cleared: `drain` must see the one or the other
            self._arrived.clear()
            while self._lines:
                count = min(len(self._lines), _LINES_AT_ONCE)
                self._write(b"".join(self._lines.popleft().encode(errors="replace") for _ in range(count)), count)
            self._is_writing = False

    def _write(self, rest: bytes, count: int) -> None:
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            for _ in range(count):
                self.on_lost()


class LogLevel:
    """The least level that is logged, the first of structlog's processors; may be set at any time, on any thread."""

    def __init__(self) -> None:
        self.name = "info"
        self._least = logging.INFO

    def set(self, name: str) -> None:
        """Log from this level on, one of LEVELS."""
        self.name, self._least = name, _NUMBERS[name]

    def __call__(self, _: Any, method: str, event: Any) -> Any:
        """Let a line through, or not."""
        if not self.lets_through(method):
            raise structlog.DropEvent
        return event

    def lets_through(self, method: str) -> bool:
        """Whether lines of this level are written; to be asked before what is in them costs something."""
        return bool(_NUMBERS.get(method, logging.ERROR) >= self._least)


LEVEL = LogLevel()
"""The level of this process, as structlog's settings are the process's."""


def configure_logs(log_format: str, level: str) -> LogSink:
    """Send all logs to standard error, in `json`, `console` or `auto` (console on a terminal)."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: list[Any] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    sink = LogSink(sys.stderr)
    LEVEL.set(level)
    structlog.configure(
        processors=[
            LEVEL,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("debug"),
        logger_factory=structlog.WriteLoggerFactory(sink),  # type: ignore[arg-type]  # all that it needs of a stream
        cache_logger_on_first_use=True,
    )
    # gRPC and asyncio speak through the standard library: only what is wrong, on the same stream
    handler = logging.StreamHandler(sink)
    added: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    only_ours = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=added, processors=[only_ours, *renderer])
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    return sink


def where(caught: Exception) -> list[str]:
    """The last places of ours that an error came through, as module:line."""
    places = [
        f"{frame.f_globals['__name__']}:{line}"
        for frame, line in traceback.walk_tb(caught.__traceback__)
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in {"trimtab", "trimtab_server"}
    ]
    return places[-_MOST_FRAMES:]
