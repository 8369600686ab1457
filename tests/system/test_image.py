"""The image, built and run as a cluster would: its own user, its own settings, a root that nobody can write to."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from deploy.image.build import Built, build
from deploy.image.run import command

import trimtab
from tests.kept_venv import ROOT
from tests.system.tools import free_port, said
from trimtab.cli.server_process import ServerProcess
from trimtab.version import __version__

pytestmark = pytest.mark.timeout(1200)  # the first test of a run builds the image

PYTHON = "/opt/trimtab/bin/python"
MOST_BYTES = 1_300_000_000
NOT_SHIPPED = ("triton", "nvidia", "pip", "setuptools", "pytest")
LIST_ALL = """
import json, os
paths, size = [], 0
for folder, folders, files in os.walk("/"):
    folders[:] = [] if folder in ("/proc", "/dev", "/sys", "/tmp") else folders
    paths += [os.path.join(folder, name) for name in folders + files]
    size += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
print(json.dumps([paths, size]))
"""


@dataclass
class Running:
    server: ServerProcess
    environment: dict[str, str]
    said_by_numba: Path


@pytest.fixture(scope="module")
def built() -> Built:
    return build("cpu")


@contextmanager
def running(folder: Path, user: str = "") -> Iterator[Running]:
    """A server of the image; numba tells on standard output what it loads and what it writes."""
    environment = {
        "TRIMTAB_LISTEN": f"127.0.0.1:{free_port()}",
        "TRIMTAB_METRICS_LISTEN": f"127.0.0.1:{free_port()}",
        "TRIMTAB_ALLOW_PLAINTEXT": "true",
        "NUMBA_DEBUG_CACHE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    line = command("cpu", environment=environment, user=user)
    output = folder / "stdout"
    with output.open("w") as file:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.PIPE, text=True)
    server = ServerProcess(process)
    try:
        server.serving = server.wait_for(event="serving")
        yield Running(server, environment, output)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def image(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    assert built.config["Entrypoint"]
    with running(tmp_path_factory.mktemp("image")) as server:
        yield server


def inside(
    *program: str, environment: dict[str, str] | None = None, user: str = ""
) -> subprocess.CompletedProcess[str]:
    """A program of the image, run like its server."""
    line = command("cpu", environment=environment, user=user, program=program)
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)


def digests(folder: Path) -> dict[str, str]:
    """Of all compiled code below it, by its path there."""
    files = [*folder.rglob("*.nbi"), *folder.rglob("*.nbc")]
    return {f"{file.parent.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def compiled(server: Running) -> tuple[bool, bool]:
    """Whether numba loaded any of what it had, and whether it had to compile any and saved that."""
    lines = server.said_by_numba.read_text()
    return "data loaded" in lines, "data saved" in lines


def test_it_answers_as_a_server_of_this_checkout_does(image: Running) -> None:
    """A Pack and a Rebalance come back, the same bytes as from the solvers here."""
    load = np.random.default_rng(5).lognormal(size=(6, 64))
    answers = []
    for target in (image.server.listen, "local"):
        with trimtab.Client(target) as client:
            packing = client.pack(load, num_packs=8)
            placement = client.rebalance(load, num_gpus=8, num_replicas=80)
            answers.append((packing.pack_index, packing.rank_in_pack, placement.physical_to_logical))
    for theirs, ours in zip(*answers, strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_it_runs_as_its_own_user_on_a_root_that_nobody_can_write_to(image: Running) -> None:
    """The server has the image's user id, and not even root writes beside the programs."""
    status = Path(f"/proc/{image.server.process.pid}/status").read_text()
    assert "\nUid:\t10001\t10001\t10001\t10001\n" in status
    assert "\nGid:\t10001\t10001\t10001\t10001\n" in status
    result = inside(PYTHON, "-c", "open('/opt/trimtab/new', 'w')", user="0:0")
    assert "Read-only file system: '/opt/trimtab/new'" in result.stderr, said(result)


def test_a_start_compiles_nothing(image: Running) -> None:
    """All compiled code is found: numba saves none, and what lies in /tmp is what the image holds, nothing more."""
    assert compiled(image) == (True, False)
    root = Path(f"/proc/{image.server.process.pid}/root")
    (copy,) = (root / "tmp").iterdir()
    assert digests(copy) == digests(root / "opt/trimtab/kernels") != {}


def test_any_user_id_may_run_it(built: Built, tmp_path: Path) -> None:
    """A cluster that picks the user id gets a server that compiles nothing either."""
    assert built.config["Entrypoint"]
    with running(tmp_path, user="1234567:0") as server:
        assert compiled(server) == (True, False)


def test_its_healthcheck_tells_and_it_drains(built: Built, tmp_path: Path) -> None:
    """The probe says 0 while it serves; SIGTERM ends it with 0, and then the probe says 1."""
    kind, *probe = built.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    with running(tmp_path) as server:
        result = inside(*probe, environment=server.environment)
        assert result.returncode == 0, said(result)
        assert server.server.stop() == 0, server.server.lines
        result = inside(*probe, environment=server.environment)
        assert result.returncode == 1, said(result)


def test_no_shell_stands_between(built: Built) -> None:
    """Entry point and healthcheck are programs of their own, and the user is a number."""
    assert built.config["Entrypoint"] == ["trimtab-server"]
    assert built.config["Healthcheck"]["Test"] == ["CMD", "trimtab-server", "--probe"]
    assert built.config["User"] == "10001:10001"
    assert inside("/usr/bin/head", "-1", "/opt/trimtab/bin/trimtab-server").stdout == f"#!{PYTHON}\n"


def test_its_labels_say_what_it_is(built: Built) -> None:
    """Title, licence, version, and the commit it was made of."""
    prefix = "org.opencontainers.image."
    own = {name: value for name, value in built.config["Labels"].items() if name.startswith(prefix)}
    labels = {name.removeprefix(prefix): value for name, value in own.items()}
    assert labels.keys() == {"title", "description", "licenses", "version", "revision", "created"}
    assert (labels["title"], labels["licenses"], labels["version"]) == ("trimtab", "Apache-2.0", __version__)
    commit = labels["revision"].removesuffix("-modified")
    known = subprocess.run(["git", "cat-file", "-t", commit], capture_output=True, text=True, check=False, cwd=ROOT)
    assert known.stdout == "commit\n", labels["revision"]


def test_it_holds_what_a_server_needs_and_no_more(built: Built) -> None:
    """No Triton, no CUDA, no installer, within its size; every package is in its list, in the version locked."""
    assert built.config["Entrypoint"]
    paths, size = json.loads(inside(PYTHON, "-c", LIST_ALL, user="0:0").stdout)
    names = {Path(path).name for path in paths if Path(path).parent.name == "site-packages"}
    assert {"torch", "grpc", "numba", "opentelemetry", "trimtab_server"} <= names
    assert names.isdisjoint(NOT_SHIPPED)
    assert [path for path in paths if "libcuda" in path or "libtorch_cuda" in path or path.endswith(".a")] == []
    assert size <= MOST_BYTES

    bom = json.loads(inside("/bin/cat", "/opt/trimtab/sbom.json").stdout)
    assert bom["bomFormat"] == "CycloneDX"
    listed = {each["name"].lower().replace("_", "-"): each["version"].partition("+")[0] for each in bom["components"]}
    locked = dict(line.split("==") for line in (ROOT / "deploy/locked.txt").read_text().split() if "==" in line)
    locked.pop("setuptools")  # torch asks for it to build extensions; the image builds none
    assert locked.items() <= listed.items()
    assert {"torch", "grpcio"} <= locked.keys()
