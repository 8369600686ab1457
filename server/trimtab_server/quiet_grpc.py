"""Imported before grpc, this has gRPC's core write nothing to standard error, unless GRPC_VERBOSITY asks for it.

Its lines are none of the log's, and some hold what a stranger sent.
"""

from __future__ import annotations

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
