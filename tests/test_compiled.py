"""The compiled packer's cache, its sorts, and its kernels as plain Python."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.kept_venv import ROOT
from trimtab_server.solvers import compiled
from trimtab_server.solvers.compiled.sorting import bucket_sort, merge_sort
from trimtab_server.solvers.numbers import noise_table, ordering_keys, quantize

PROBE = """
import hashlib, json
import numpy as np
import numba.core.config
setting = numba.core.config.CACHE_DIR
from tests.plain_packer import PlainPacker
from trimtab_server.solvers.compiled import CACHE_FOLDER
from trimtab_server.solvers.compiled.rows import solve_rows
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.packing import solve_packs
from trimtab_server.solvers.problem import PackOptions, PackProblem

def digest(packer):
    rng, answers = np.random.default_rng(0), hashlib.sha256()
    for weight, packs in [
        (rng.lognormal(0, 1, (3, 24)), 4), (rng.integers(0, 4, (2, 12)), 3), (np.zeros((1, 6)), 2),
        (np.ones((1, 12)), 12), (rng.random((2, 5)), 1), (np.full((1, 60), 7.0), 6),
        (10.0 ** rng.uniform(-30, 30, (1, 18)), 9), (rng.random((1, 40)), 20),
    ]:
        for refine in (True, False):
            options = PackOptions(3, seed=1, refine=refine, target_gap=0.0)
            (answer,) = solve_packs([PackProblem(np.asarray(weight), packs, options)], packer)
            for array in (answer.pack_index, answer.rank_in_pack, answer.winning_restart):
                answers.update(array.tobytes())
    return answers.hexdigest()

packer = CpuPacker(2)
stats = getattr(solve_rows, "stats", None)
print(json.dumps({
    "right": digest(packer) == digest(PlainPacker()),
    "loaded": sum(stats.cache_hits.values()) if stats else None,
    "compiled": sum(stats.cache_misses.values()) if stats else None,
    "folder": CACHE_FOLDER and str(CACHE_FOLDER),
    "setting_kept": numba.core.config.CACHE_DIR == setting,
}))
"""
UNWRITABLE = """
import tempfile
real = tempfile.TemporaryFile
def temporary_file(*args, **kwargs):
    if str(kwargs.get("dir")).startswith({folder!r}):
        raise PermissionError("read-only, as a test wants it")
    return real(*args, **kwargs)
tempfile.TemporaryFile = temporary_file  # where both numba and the solvers see whether they can write
"""
TOO_LARGE = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"  # writes fail, as on a full disk
LOADED = {"right": True, "loaded": 1, "compiled": 0, "setting_kept": True}
COMPILED = {"right": True, "loaded": 0, "compiled": 1, "setting_kept": True}
NOT_KEPT = COMPILED | {"folder": None}


def probe(folder: Path | str, *, first: str = "", flags: tuple[str, ...] = (), **environment: str) -> dict[str, Any]:
    """What the solver says of itself in a process of its own, with this cache folder."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    result = subprocess.run(
        [sys.executable, *flags, "-c", first + "\n" + PROBE],
        cwd=ROOT,
        env={**variables, "NUMBA_CACHE_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert result.returncode == 0, f"exit status {result.returncode}: {result.stderr}"
    report: dict[str, Any] = json.loads(result.stdout)
    return report


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that one process has filled; tests change copies of it."""
    folder = tmp_path_factory.mktemp("cache")
    report = probe(folder)
    assert report == COMPILED | {"folder": str(next(folder.glob("kernels-*")))}
    return folder


@pytest.fixture
def copied(cache: Path, tmp_path: Path) -> Path:
    """A full cache folder for one test to harm."""
    return shutil.copytree(cache, tmp_path / "copied")


def test_a_second_process_loads_what_the_first_compiled(cache: Path) -> None:
    """And compiles nothing; numba's own setting stays as it was."""
    assert probe(cache) == LOADED | {"folder": str(next(cache.glob("kernels-*")))}


def test_a_process_that_compiles_nothing_writes_nothing(copied: Path) -> None:
    """Digests of all that is kept take time, so they are made anew where something was compiled."""
    sums = next(copied.glob("kernels-*/SHA256SUMS"))
    before = sums.stat()
    assert probe(copied)["loaded"] == 1
    after = sums.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_without_numba_s_setting_the_cache_is_the_user_s(cache: Path, tmp_path: Path) -> None:
    """In their home, and numba's own setting stays empty."""
    kept = next(cache.glob("kernels-*"))
    home = shutil.copytree(kept, tmp_path / ".cache" / "trimtab" / kept.name)
    assert probe("", HOME=str(tmp_path)) == LOADED | {"folder": str(home)}


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def garbage(data: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(data))


def flipped(data: bytes) -> bytes:
    """Some bits of the machine code, which pickle takes as it is: it would end the process."""
    at = len(data) // 8
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 64]) + data[at + 64 :]


Damage = Callable[[bytes], bytes]


def damage(folder: Path, pattern: str, change: Damage) -> None:
    files = list(folder.glob(f"*/*/{pattern}"))
    assert files
    for file in files:
        file.write_bytes(change(file.read_bytes()))


@pytest.mark.parametrize(
    ("pattern", "change"),
    [
        ("rows.*.nbi", truncated),
        ("rows.*.nbi", garbage),
        ("rows.*.nbc", truncated),
        ("rows.*.nbc", garbage),
        ("rows.*.nbc", flipped),
    ],
)
def test_a_damaged_file_is_compiled_again(copied: Path, pattern: str, change: Damage) -> None:
    """Once: the answers are right, and the process after it loads."""
    damage(copied, pattern, change)
    folder = {"folder": str(next(copied.glob("kernels-*")))}
    assert probe(copied) == COMPILED | folder
    assert probe(copied) == LOADED | folder


@pytest.mark.parametrize(("pattern", "change"), [("*.nbi", truncated), ("*.nbc", garbage)])
def test_files_that_numba_cannot_read_are_all_compiled_again(copied: Path, pattern: str, change: Damage) -> None:
    """Where the damage was done before the digests were written, so that nothing but the reading shows it."""
    damage(copied, pattern, change)
    kept = next(copied.glob("kernels-*"))
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(kept)}" for file in kept.glob("*/*")]
    (kept / "SHA256SUMS").write_text("\n".join(sums))
    assert probe(copied) == COMPILED | {"folder": str(kept)}
    assert probe(copied) == LOADED | {"folder": str(kept)}


@pytest.mark.parametrize(
    ("folder", "first"), [("/dev/null/none", ""), ("{tmp_path}", TOO_LARGE)], ids=["no folder", "full"]
)
def test_a_folder_that_cannot_be_written_is_done_without(folder: str, first: str, tmp_path: Path) -> None:
    """A path that cannot be, or a full disk: compiled at each start, and the answers are right."""
    assert probe(folder.format(tmp_path=tmp_path), first=first) == NOT_KEPT


def test_a_folder_that_can_only_be_read_is_loaded(copied: Path) -> None:
    """As in an image, where root compiled and another user serves: from a copy, which is gone at the end."""
    report = probe(copied, first=UNWRITABLE.format(folder=str(copied)))
    folder = Path(report.pop("folder"))
    assert report == LOADED
    assert not folder.is_relative_to(copied)
    assert not folder.exists()


def test_without_the_jit_the_kernels_give_the_same_bytes(tmp_path: Path) -> None:
    """Plain Python shows what compiled code hides: an integer that overflows, an index out of bounds."""
    report = probe(tmp_path, flags=("-W", "error::RuntimeWarning"), NUMBA_DISABLE_JIT="1")
    assert (report["right"], report["loaded"], report["compiled"]) == (True, None, None)


def test_the_folder_is_named_after_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte changed in any one of them makes another name, and so does the package in another place."""
    sources = [Path(shutil.copy(source, tmp_path / f"{i}.py")) for i, source in enumerate(compiled._SOURCES)]
    names = {compiled._digest()}
    monkeypatch.setattr(compiled, "_SOURCES", sources)
    assert {compiled._digest()} == names
    for source in sources:
        source.write_bytes(source.read_bytes() + b"\n")
        names.add(compiled._digest())
    monkeypatch.setattr(compiled, "_HERE", tmp_path)
    names.add(compiled._digest())
    assert len(names) == len(sources) + 2


def test_the_sources_are_all_that_kernels_are_made_of() -> None:
    """Whatever of ours a kernel's module imports, and what that imports."""
    found = {source.relative_to(ROOT / "server").with_suffix("") for source in compiled._SOURCES}
    names = {".".join(source.parts).removesuffix(".__init__") for source in found}
    for source in compiled._SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trimtab"):
                assert node.module in names, f"{source.name} imports {node.module}"


def sorted_by(sort: Callable[..., Any], keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], bool]:
    """What a sort makes of keys, and whether that lies in the array that they came in."""
    n = len(keys)
    key, spare, bits = keys.copy(), np.empty(n, np.int64), np.empty(n, np.int64)
    edge = np.empty(n + 1, np.int64)
    if sort is merge_sort:
        answer = merge_sort(key, spare, edge)
    else:
        answer = bucket_sort(key, spare, bits.view(np.float64), bits, np.empty(2 * n, np.int32), edge)
    return answer, np.shares_memory(answer, key)


def keys_of_items(weight: Any) -> npt.NDArray[np.int64]:
    """Keys as the packer makes them, of one row."""
    whole, _ = quantize(np.asarray(weight, np.float64)[None])
    table = noise_table(whole.shape[1], 2, 0.01, 0.15, 0)
    keys: npt.NDArray[np.int64] = ordering_keys(whole, table[None], np.zeros(1, np.int64))[0, 1]
    return keys


RNG = np.random.default_rng(0)
TOP = 2**63 - 1
KEYS: dict[str, npt.NDArray[np.int64]] = {
    "one": np.array([7]),
    "two": np.array([0, TOP]),
    "three": np.array([1, 0, 2]),
    "random": RNG.integers(0, TOP, 300),
    "ascending": np.arange(300),
    "descending": np.arange(300)[::-1].copy(),
    "the largest": TOP - RNG.permutation(300),
    "around a power of two": (1 << 53) - 150 + RNG.permutation(300),
    "every size": np.array([1 << bit for bit in range(63)] + [(1 << bit) - 1 for bit in range(2, 64)]),
    "clustered": np.concatenate([centre + RNG.permutation(64) for centre in (0, 10**6, 10**12, 10**18)]),
    "equal prefixes": (RNG.integers(0, 3, 300) << 40) | RNG.permutation(300),
    "equal weights": keys_of_items(np.full(288, 7.0)),
    "no load": keys_of_items(np.zeros(256)),
    "lognormal": keys_of_items(RNG.lognormal(0, 1, 288)),
    "one spike": keys_of_items(np.where(np.arange(288) == 5, 1e9, 1.0)),
}


@pytest.mark.parametrize("sort", [merge_sort, bucket_sort], ids=["merge", "bucket"])
@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS.keys())
def test_a_sort_gives_what_numpy_gives(sort: Callable[..., Any], keys: npt.NDArray[np.int64]) -> None:
    """Descending, for every length and whatever the values."""
    assert len(set(keys.tolist())) == len(keys), "keys are unique"
    for n in {len(keys), len(keys) - 1, len(keys) // 3} - {0}:
        answer, _ = sorted_by(sort, keys[:n])
        assert answer.tolist() == np.sort(keys[:n])[::-1].tolist()


def test_clustered_keys_go_to_merge_sort() -> None:
    """Where insertion would go on for n squared steps; spread keys stay with the buckets."""
    # of 256 keys, merge sort ends in the array that they came in, and the buckets in the other
    close, spread = TOP // 2 + RNG.permutation(256), RNG.integers(0, TOP, 256)
    for keys, merged in ((np.sort(close), True), (spread, False)):
        answer, in_key = sorted_by(bucket_sort, keys)
        assert in_key is merged
        assert answer.tolist() == np.sort(keys)[::-1].tolist()
