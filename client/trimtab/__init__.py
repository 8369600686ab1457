"""trimtab: balanced placements for the experts of Mixture-of-Experts serving clusters.

Example:
    ::

        with trimtab.Client("placement:50051") as client:
            packing = client.pack(weight, num_packs=32)
"""

from trimtab.answers import Description, Execution, Packing
from trimtab.client import AsyncClient, Client
from trimtab.errors import (
    CancelledError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    OverloadedError,
    PermissionDeniedError,
    TrimtabError,
    UnauthenticatedError,
    UnavailableError,
    UnexpectedStatusError,
    Violation,
)
from trimtab.version import __version__

__all__ = [
    "AsyncClient",
    "CancelledError",
    "Client",
    "DeadlineExceededError",
    "Description",
    "Execution",
    "InternalError",
    "InvalidArgumentError",
    "OverloadedError",
    "Packing",
    "PermissionDeniedError",
    "TrimtabError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedStatusError",
    "Violation",
    "__version__",
]
