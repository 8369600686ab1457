"""trimtab: balanced placements for the experts of Mixture-of-Experts serving clusters.

Example:
    ::

        with trimtab.Client("placement:50051") as client:
            packing = client.pack(weight, num_packs=32)
            placement = client.rebalance(load, num_gpus=32, num_replicas=288, previous=old, max_moves=1800)
"""

from trimtab.answers import Description, Execution, Packing, Placement
from trimtab.async_client import AsyncClient
from trimtab.client import Client
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
    "Placement",
    "TrimtabError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnexpectedStatusError",
    "Violation",
    "__version__",
]
