"""Addresses: to listen on, HOST:PORT or unix:PATH; of a collector of traces."""

from __future__ import annotations

import re

_ADDRESS = re.compile(r"(?:unix:.+|\[[0-9a-fA-F:]+\]:\d{1,5}|[^:\[\]/\s]+:\d{1,5})")
_MAX_PORT = 65535


def address(value: str) -> str:
    """The address, checked.

    Raises:
        ValueError: says what it must be.
    """
    if not _ADDRESS.fullmatch(value):
        raise ValueError("must be HOST:PORT, as 127.0.0.1:50051")
    if not value.startswith("unix:") and int(value.rpartition(":")[2]) > _MAX_PORT:
        raise ValueError(f"the port must be at most {_MAX_PORT}")
    return value


def tcp_address(value: str) -> str:
    """The address, checked, a path not allowed.

    Raises:
        ValueError: says what it must be.
    """
    if value.startswith("unix:"):
        raise ValueError("must be HOST:PORT, as 127.0.0.1:9095")
    return address(value)


def collector(value: str | None) -> str | None:
    """The address of a collector, checked.

    Raises:
        ValueError: says what it must be.
    """
    if value is None:
        return None
    scheme, _, rest = value.partition("://")
    if scheme not in {"http", "https"} or not _ADDRESS.fullmatch(rest) or rest.startswith("unix:"):
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT, as http://127.0.0.1:4317")
    address(rest)
    return value
