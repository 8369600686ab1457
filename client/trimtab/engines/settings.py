"""The settings of a plug-in, read once from the environment of the engine's process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trimtab.channel import LOCAL
from trimtab.client import Caller, Client
from trimtab.errors import InvalidArgumentError
from trimtab.v1 import placement_pb2 as pb

MAX_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Settings:
    """Where the service is, how to be known there, and what is asked of it; all but the engine from a variable."""

    engine: str
    """What callers are known by, where neither token nor certificate tells it."""
    target: str
    """`host:port`, or a gRPC name such as `dns:///placement:50051`."""
    timeout: float = 2.0
    """Seconds until the placement in force is kept, retries included; all ranks wait as long."""
    max_moves: int | None = None
    """Most copies that a rebalance may move, over all layers; None: as many as it takes.

    Where groups of experts should stay on nodes and do not yet, a budget leaves them apart, as bringing them together
    moves nearly all.
    """
    min_gain: float | None = None
    """A layer that would gain less balancedness keeps its placement."""
    ca: str | None = None
    """A file of certificates to trust; turns TLS on."""
    cert: str | None = None
    """The client's own certificate, a file."""
    key: str | None = None
    """Its key, a file."""
    token_file: str | None = None
    """The file of the token; read at each call, as it may have been renewed."""

    @classmethod
    def read(cls, engine: str, environment: Mapping[str, str] = os.environ) -> Settings | None:
        """The settings of an engine's plug-in: `TRIMTAB_<ENGINE>_TARGET` and the others; None: it is not switched on.

        Raises:
            InvalidArgumentError: a variable is unknown or its value wrong; names the variable and the rule.
        """
        prefix = f"TRIMTAB_{engine.upper()}_"
        given = {
            name: value.strip() for name, value in environment.items() if name.startswith(prefix) and value.strip()
        }
        if f"{prefix}TARGET" not in given:
            return None
        names = {prefix + setting.name.upper(): setting.name for setting in fields(cls) if setting.name != "engine"}
        for name in sorted(given.keys() - names.keys()):
            raise InvalidArgumentError.of(name, f"is no setting; there are {', '.join(names)}")
        settings = cls(engine, **{names[name]: _read(name, names[name], value) for name, value in given.items()})
        settings._check(prefix)
        return settings

    def _check(self, prefix: str) -> None:
        """Find what no client can be made of, without making one: gRPC must not start before the engine has forked."""
        try:
            Caller(**self._client_arguments()).call_arguments(pb.DescribeRequest(), None)
        except InvalidArgumentError as error:
            found = error.violations[0]
            setting = {"token": "token_file"}.get(found.field, found.field)
            raise InvalidArgumentError.of(prefix + setting.upper(), found.description) from None

    def client(self) -> Client:
        """A client of the service."""
        return Client(**self._client_arguments())

    def _client_arguments(self) -> dict[str, Any]:
        names = ("target", "timeout", "ca", "cert", "key")
        token = {"token": self._token} if self.token_file is not None else {}
        return {**{name: getattr(self, name) for name in names}, "caller": self.engine, **token}

    def _token(self) -> str:
        path = Path(self.token_file or "")
        try:
            return path.read_text().strip()
        except OSError as error:
            raise InvalidArgumentError.of("token", f"{path} can't be read: {error.strerror or error}") from None


_RULES: dict[str, tuple[Callable[[str], Any], Callable[[Any], bool], str]] = {
    "target": (str, lambda target: bool(target != LOCAL), "must be HOST:PORT of a server, or a gRPC name"),
    "timeout": (
        float,
        lambda timeout: bool(0 < timeout <= MAX_TIMEOUT_SECONDS),
        f"must be seconds, more than 0 and at most {MAX_TIMEOUT_SECONDS:g}",
    ),
    "max_moves": (int, lambda moves: bool(moves >= 0), "must be a whole number, at least 0"),
    "min_gain": (float, lambda gain: bool(0 <= gain <= 1), "must be a balancedness, from 0 to 1"),
}


def _read(variable: str, setting: str, text: str) -> Any:
    if setting not in _RULES:
        return text
    kind, keeps, rule = _RULES[setting]
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not keeps(value):
        raise InvalidArgumentError.of(variable, f"{rule}, got {text!r}")
    return value
