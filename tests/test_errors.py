"""The one table between errors and statuses: total, and the same from both ends."""

from dataclasses import FrozenInstanceError
from typing import Any

import grpc
import pytest

from trimtab import errors


class FailedCall(grpc.RpcError):
    """What a client is left with after a status crossed the wire."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def code(self) -> grpc.StatusCode:
        return self._status.code  # type: ignore[no-any-return]

    def details(self) -> str:
        return self._status.details  # type: ignore[no-any-return]

    def trailing_metadata(self) -> Any:
        return self._status.trailing_metadata


EXAMPLES = [
    errors.InvalidArgumentError([errors.Violation("weight", "is required"), errors.Violation("num_packs", "got 0")]),
    errors.OverloadedError("the queue is full", retry_after_seconds=0.25),
    errors.OverloadedError("the queue is full"),
    errors.DeadlineExceededError("too late"),
    errors.UnavailableError("draining"),
    errors.UnauthenticatedError("who?"),
    errors.PermissionDeniedError("no"),
    errors.CancelledError("gone"),
    errors.InternalError("id 7"),
]


def test_the_table_is_total() -> None:
    """Every error has a status of its own, and an example below."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TrimtabError)}
    kinds.remove(errors.TrimtabError)
    assert set(errors.TABLE) == kinds
    assert len(set(errors.TABLE.values())) == len(kinds)
    assert {type(example) for example in EXAMPLES} | {errors.UnexpectedStatusError} == kinds


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_crosses_the_wire_whole(error: errors.TrimtabError) -> None:
    """What the server raises is what the client raises, with what it carried."""
    back = errors.from_rpc_error(FailedCall(errors.to_status(error)))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


@pytest.mark.parametrize(("seconds", "milliseconds"), [(0.25, "250"), (0.02, "20"), (10.0, "10000"), (1.0004, "1000")])
def test_when_to_come_back_is_said_in_both_ways(seconds: float, milliseconds: str) -> None:
    """As RetryInfo, which keeps nanoseconds, and in the form that gRPC's own retries honour."""
    status: Any = errors.to_status(errors.OverloadedError("full", seconds))
    assert dict(status.trailing_metadata)["grpc-retry-pushback-ms"] == milliseconds
    back = errors.from_rpc_error(FailedCall(status))
    assert isinstance(back, errors.OverloadedError)
    assert back.retry_after_seconds == seconds


def test_an_overload_that_knows_no_time_asks_for_none() -> None:
    """Nothing that a client could take for one."""
    status: Any = errors.to_status(errors.OverloadedError("full"))
    assert "grpc-retry-pushback-ms" not in dict(status.trailing_metadata)


def test_a_violation_stands() -> None:
    """It can be kept and compared."""
    violation = errors.Violation("weight", "is required")
    assert violation == errors.Violation("weight", "is required")
    with pytest.raises(FrozenInstanceError):
        violation.field = "load"  # type: ignore[misc]


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in errors.TABLE.values()])
def test_a_status_that_is_not_ours_is_told_apart(code: grpc.StatusCode) -> None:
    """A proxy's own status keeps its code and words."""
    back = errors.from_rpc_error(FailedCall(_status(code, "from a proxy")))
    assert isinstance(back, errors.UnexpectedStatusError)
    assert back.code is code
    assert "from a proxy" in str(back)


def test_a_foreign_invalid_argument_keeps_its_words() -> None:
    """Without BadRequest details the message is the violation."""
    back = errors.from_rpc_error(FailedCall(_status(grpc.StatusCode.INVALID_ARGUMENT, "bad header")))
    assert isinstance(back, errors.InvalidArgumentError)
    assert back.violations == (errors.Violation("request", "bad header"),)


def test_broken_details_do_not_hide_the_error() -> None:
    """Details that do not parse leave the status as it is."""
    status = _status(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-status-details-bin", b"\xff\xff"),))
    back = errors.from_rpc_error(FailedCall(status))
    assert isinstance(back, errors.OverloadedError)
    assert back.retry_after_seconds is None


def _status(code: grpc.StatusCode, details: str, metadata: Any = ()) -> Any:
    return type("Status", (), {"code": code, "details": details, "trailing_metadata": metadata})
