"""Clients that share no code with ours: buf through reflection, and Node through the proto file."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trimtab
from tests.system.tools import run, said
from trimtab.cli.server_process import ServerProcess, running_server

SERVICE = "trimtab.v1.PlacementService"
WEIGHT = np.arange(1, 13, dtype="<f4").reshape(2, 6)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One server for all of them."""
    with running_server() as started:
        yield started


def _buf_curl(server: ServerProcess, method: str, request: dict[str, Any]) -> Any:
    called = run(
        "buf",
        "curl",
        "--protocol=grpc",
        "--http2-prior-knowledge",
        f"--data={json.dumps(request)}",
        f"http://{server.listen}/{SERVICE}/{method}",
    )
    assert called.returncode == 0, said(called)
    return json.loads(called.stdout)


def test_buf_curl_describes_through_reflection(server: ServerProcess) -> None:
    """A tool that has never seen the proto learns it from the server, and calls Describe."""
    described = _buf_curl(server, "Describe", {})
    assert described["serverVersion"] == trimtab.__version__
    assert int(described["limits"]["maxRows"]) > 0


def test_buf_curl_packs_as_our_client_does(server: ServerProcess) -> None:
    """A request written by hand as JSON gets the packing that our client gets."""
    data = base64.b64encode(WEIGHT.tobytes()).decode()
    weight = {"dataType": "DATA_TYPE_FLOAT32", "shape": WEIGHT.shape, "data": data}

    packing = _buf_curl(server, "Pack", {"weight": weight, "numPacks": 3})["packing"]

    assert packing["packIndex"]["dataType"] == "DATA_TYPE_INT16"
    found = np.frombuffer(base64.b64decode(packing["packIndex"]["data"]), "<i2").reshape(WEIGHT.shape)
    with trimtab.Client(server.listen) as client:
        ours = client.pack(WEIGHT, 3)
    assert (found == ours.pack_index).all()
    assert packing["maxLoad"] == ours.max_load.tolist()


def test_node_packs_and_is_refused(server: ServerProcess) -> None:
    """Node gets packs of equal count with every rank once, and a refusal with the field in its details."""
    called = run("node", Path(__file__).parent / "pack.js", server.listen, "proto")
    assert called.returncode == 0, said(called)
    answer = json.loads(called.stdout)

    assert answer["shape"] == [2, 8]
    packs = np.array(answer["packIndex"]).reshape(2, 8)
    ranks = np.array(answer["rankInPack"]).reshape(2, 8)
    for layer in range(2):
        assert Counter(packs[layer].tolist()) == dict.fromkeys(range(4), 2)
        assert len(set(zip(packs[layer], ranks[layer], strict=True))) == 8
    assert len(answer["maxLoad"]) == 2
    assert answer["error"]["code"] == "INVALID_ARGUMENT"
    assert "num_packs" in answer["error"]["details"]
