"""Generates the stubs of the contract: `make stubs` into the client, the test of them into a folder of its own.

With the oldest grpcio-tools that the client supports, so that it fits beside older grpcio and protobuf. protoc writes
`trimtab/v1/...` as the proto's own path says, so what it writes is what is committed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.kept_venv import NEWEST_PYTHON_OF_2024, ROOT, kept_venv

GRPCIO_TOOLS = "grpcio-tools==1.62.3"
REQUIREMENTS = (GRPCIO_TOOLS, "setuptools<81")  # it imports pkg_resources, which newer setuptools do not have
PROTO = Path("trimtab/v1/placement.proto")


def why_not_here() -> str:
    """Why this Python can't generate; empty where it can."""
    if sys.version_info[:2] <= NEWEST_PYTHON_OF_2024:
        return ""
    newest = ".".join(map(str, NEWEST_PYTHON_OF_2024))
    return f"{GRPCIO_TOOLS} has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}; use {newest} or older"


def generate(into: Path) -> None:
    """Write the stubs below a folder.

    Raises:
        subprocess.CalledProcessError: pip or protoc failed, and said why on standard error.
    """
    python = kept_venv("stubs", *REQUIREMENTS)
    outputs = [f"--{kind}={into}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    subprocess.run([python, "-m", "grpc_tools.protoc", "-I", "proto", *outputs, PROTO], check=True, cwd=ROOT)


if __name__ == "__main__":
    if why_not_here():
        sys.exit(f"make stubs: {why_not_here()}")
    generate(ROOT / "client")
    print(f"client/{PROTO.parent}: generated with {GRPCIO_TOOLS}")  # noqa: T201
