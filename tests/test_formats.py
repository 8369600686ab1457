"""Arrays in files: what is in them comes out as it is, and what is wrong with them is told in plain words."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.format_files import Make, claiming, cut, json_of, npy, npz, pt, raw, told, zipped
from trimtab.formats import (
    LOAD_ENDINGS,
    NAMES,
    FileError,
    FormatError,
    read_loads,
    write_loads,
)
from trimtab.synthetic import generate_loads

LOAD = generate_loads(3, 8)
TENSOR = torch.from_numpy(LOAD.copy())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("loads.json", raw(str(LOAD.tolist()))),
        ("loads.json", json_of(logical_count=LOAD.tolist())),
        ("loads.JSON", json_of(rank=0, logical_count=LOAD.astype(float).tolist())),
        ("loads.npy", npy(LOAD)),
        ("loads.npy", npy(np.asfortranarray(LOAD.astype(">i8")))),
        ("key.npz", npz(other=LOAD + 1, weight=LOAD + 1, logical_count=LOAD)),
        ("key.npz", npz(other=LOAD + 1, load=LOAD)),
        ("key.npz", npz(other=LOAD + 1, weight=LOAD)),
        ("only.npz", npz(anything=LOAD)),
        ("tensor.pt", pt(TENSOR)),
        ("no_ending", npy(LOAD)),
        ("really_an_archive.npy", npz(load=LOAD)),
        ("really_an_array.csv", npy(LOAD)),
        ("really_a_tensor.npz", pt(TENSOR)),
        ("really_json.pt", raw(b"\n \t" + str(LOAD.tolist()).encode())),
    ],
)
def test_loads_come_out_as_they_went_in(tmp_path: Path, name: str, make: Make) -> None:
    """What is in a file decides how it is read, whatever it is called; one without windows is one."""
    make(tmp_path / name)
    read = read_loads(tmp_path / name)
    np.testing.assert_array_equal(read.load, LOAD[None])
    assert (read.layers.tolist(), read.num_read, read.placement) == ([0, 1, 2], 1, None)


@pytest.mark.parametrize("ending", LOAD_ENDINGS)
def test_windows_are_kept(tmp_path: Path, ending: str) -> None:
    """What is written, with windows, is what is read; a path may be text."""
    windows = generate_loads(2, 5, num_windows=3)
    path = str(tmp_path / f"loads{ending}")
    write_loads(path, windows)
    back = read_loads(path).load
    np.testing.assert_array_equal(back, windows)
    assert back.dtype == np.int64


def test_small_types_are_upcast(tmp_path: Path) -> None:
    """bfloat16, which numpy does not know, and int16 become types that a request carries."""
    pt(torch.ones(2, 2, dtype=torch.bfloat16))(tmp_path / "a.pt")
    npy(np.ones((2, 2), np.int16))(tmp_path / "a.npy")
    assert read_loads(tmp_path / "a.pt").load.dtype == np.float32
    assert read_loads(tmp_path / "a.npy").load.dtype == np.int32


def test_real_loads_are_read(traces: list[Path]) -> None:
    """The published profiles: 61 layers, three of them without load; together they are windows in that order."""
    together = read_loads(traces).load
    for path, window in zip(traces, together, strict=True):
        load = read_loads(path).load
        assert load.shape == (1, 61, 256)
        assert (load[0].sum(axis=1) == 0).tolist() == [True] * 3 + [False] * 58
        np.testing.assert_array_equal(window, load[0])


SHAPE = "they must have shape [layers, experts] or [windows, layers, experts], none of them 0"
ONLY = "must hold one array, or one named logical_count, load, weight; holds"
NOT_WHOLE = "is not a whole .pt file, or has Python objects in it, which are never loaded; save"
BAD: list[tuple[str, Make, str]] = [
    ("empty", raw(b""), "is empty; whatever should have written it did not"),
    ("no.npy", lambda _: None, "there is no such file; check the path"),
    ("x" * 300 + ".json", lambda _: None, "can't be read (File name too long)"),
    (
        "a",
        raw(b"1,2"),
        'is of no known format, it begins with "1,2"; known are plain, sglang, tensorrt-llm, vllm, vllm-',
    ),
    ("a.json", raw(b"not json"), 'is of no known format, it begins with "not json"; known are'),
    ("a.npy", raw(b"hello"), 'is of no known format, it begins with "hello"; known are'),
    ("a.npz", raw(b"\xff" * 9), 'is of no known format, it begins with "\\ufffd'),
    ("a", json_of(load=1), 'is of no known format, it begins with "{\\"load\\": 1}"; known are'),
    ("a", json_of(physical_to_logical_map=[[0]]), "holds no loads, it is a placement file of sglang"),
    ("a", npz(physical_to_logical_map=LOAD), "holds no loads, it is a placement file of plain"),
    ("a", raw(b"[" * 200_000), "is not JSON ("),
    ("a", cut(json_of(logical_count=LOAD.tolist()), 60), "is not JSON ("),
    ("a", raw(b'{"logical_count": \xff}'), "is not JSON ('utf-8' codec can't decode"),
    ("a", raw("[[1, 2], [3]]"), "the rows of the list must be of one length, they have from 1 to 2 values; give each"),
    ("a", raw("[[[1]], [[1], [2]]]"), "the rows of the list must be of one length, they have from 1 to 2 values"),
    ("a", raw("[[1, 2], 3]"), "the list must hold numbers and nothing else, holds [1, 2]"),
    ("a", raw('[[1, "b"]]'), 'the list must hold numbers and nothing else, holds "b"'),
    ("a", raw("[[1, null]]"), "the list must hold numbers and nothing else, holds null"),
    ("a", raw("[[true]]"), "the list must hold numbers and nothing else, holds true"),
    ("a", raw("[[1, 1" + "0" * 30 + "]]"), "does not hold numbers (must hold integers or floats of up to 64"),
    ("a", raw("[[1, 1" + "0" * 5000 + "]]"), "is not JSON (Exceeds the limit (4300 digits) for integer string"),
    ("a", raw("[1, 2]"), f"its loads have shape [2]; {SHAPE}"),
    ("a", raw("[[[[1]]]]"), f"its loads have shape [1, 1, 1, 1]; {SHAPE}"),
    ("a", raw("[]"), f"its loads have shape [0]; {SHAPE}"),
    ("a", raw("[[], []]"), f"its loads have shape [2, 0]; {SHAPE}"),
    ("a", raw("[[1, NaN]]"), "every load must be finite and at least 0, got nan at [0, 0, 1]"),
    ("a", raw("[[1, 1e400]]"), "every load must be finite and at least 0, got inf at [0, 0, 1]"),
    ("a", raw("[[[1]], [[-2]]]"), "every load must be finite and at least 0, got -2 at [1, 0, 0]"),
    ("a", npy(np.full((70, 2, 2), -1.5)), "every load must be finite and at least 0, got -1.5 at [0, 0, 0]"),
    ("a", npy(np.append(np.ones((70, 1, 1)), [[[-1]]], axis=0)), "got -1.0 at [70, 0, 0]"),
    ("a.npy", raw(pickle.dumps([[1]], 4)), NOT_WHOLE),
    ("a", cut(npy(LOAD), 40), "can't be read as npy (EOF: reading array header"),
    ("a", cut(npy(LOAD), 200), "can't be read as npy (mmap length is greater than file size)"),
    ("a", raw(claiming("(1073741824, 1024)")), "can't be read as npy (mmap length is greater than file size)"),
    ("a", raw(claiming("(1152921504606846976, 8)")), "can't be read as npy ("),
    ("a", npy(np.array([[None]])), "can't be read as npy (Array can't be memory-mapped: Python objects in dtype"),
    ("a", npy(LOAD.astype(complex)), "does not hold numbers (must hold integers or floats of up to 64 bits"),
    ("a", npy(LOAD.astype("M8[s]")), "does not hold numbers ("),
    ("a", npy(np.zeros((0, 4))), f"its loads have shape [0, 4]; {SHAPE}"),
    ("a", raw(b"PK\x03\x04" + bytes(60)), "can't be read as npz (File is not a zip file)"),
    ("a", cut(npz(load=LOAD), 200), "can't be read as npz (File is not a zip file)"),
    ("a", npz(a=LOAD, b=LOAD), f"{ONLY} a, b"),
    ("a", npz(), f"{ONLY} no arrays"),
    ("a", npz(load=np.array([[None]])), "can't be read as npz (Object arrays cannot be loaded"),
    ("a", zipped("load.npy", claiming("(1152921504606846976, 8)")), "can't be read as npz ("),
    ("a", zipped("load.npy", claiming("(1073741824, 8)")), "can't be read as npz ("),
    ("a", zipped("load.txt", b"1 2 3"), "does not hold numbers ("),
    ("a", cut(pt(TENSOR), 300), "can't be read as npz (File is not a zip file)"),
    ("a", pt(Path("x")), NOT_WHOLE),
    ("a", pt(torch.eye(3).to_sparse()), "can't be read as pt (can't convert Sparse"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD, ids=[f"{n[:12]}-{m[:40]}" for n, _, m in BAD])
def test_bad_files_are_told_apart(tmp_path: Path, name: str, make: Make, message: str) -> None:
    """Each ends in one error of our own, one line that names the file and begins as expected."""
    make(tmp_path / name)
    assert message in told(read_loads, tmp_path / name)


@pytest.mark.parametrize(
    ("make", "where"),
    [(npy(LOAD), "numpy.load"), (pt(TENSOR), "torch.load"), (raw("[[1]]"), "pathlib.Path.read_bytes")],
)
def test_a_file_without_the_right_to_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make, where: str
) -> None:
    """The system's own reason is passed on (made up here: root may read everything)."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    make(tmp_path / "a")
    monkeypatch.setattr(where, refuse)
    assert "can't be read (Permission denied)" in told(read_loads, tmp_path / "a")


def test_an_archive_cannot_run_code(tmp_path: Path) -> None:
    """A pickle that would leave a trace, in every kind that could hold one, leaves none."""
    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (trace,))

    npy(np.array([[Evil()]], object))(tmp_path / "a.npy")
    npz(load=np.array([[Evil()]], object))(tmp_path / "a.npz")
    pt(Evil())(tmp_path / "a.pt")
    pt({"logical_count": [[1]], "records": Evil()})(tmp_path / "b.pt")
    raw(pickle.dumps(Evil()))(tmp_path / "a.pkl")
    for path in sorted(tmp_path.iterdir()):
        for name in (None, *NAMES):
            with pytest.raises(FormatError):
                read_loads(path, format_name=name)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.csv", "its ending '.csv' is none of those that can be written: .json, .pt, .npy, .npz"),
        ("no/a.npz", "can't be written (No such file or directory)"),
        (".json/", "its ending '' is none of those that can be written"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path: Path, name: str, message: str) -> None:
    """A kind that is only read, or a folder that is not there."""
    with pytest.raises(FileError) as caught:
        write_loads(tmp_path / name, LOAD)
    assert message in str(caught.value)


def test_torch_is_needed_only_for_its_own_files(tmp_path: Path) -> None:
    """Without torch and PyYAML other kinds are read, and these say what to install."""
    write_loads(tmp_path / "a.npz", LOAD)
    pt(TENSOR)(tmp_path / "a.pt")
    raw("initial_global_assignments: {3: [0]}")(tmp_path / "a.yaml")
    code = (
        "import sys; sys.modules['torch'] = sys.modules['yaml'] = None\n"
        "from trimtab.formats import read_loads, read_placement, write_loads\n"
        "load = read_loads('a.npz').load\n"
        "print(load.shape)\n"
        "for call in (read_loads, 'a.pt'), (write_loads, 'b.pt', load), (read_placement, 'a.yaml'):\n"
        "    try: call[0](*call[1:])\n"
        "    except Exception as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.splitlines() == [
        "(1, 3, 8)",
        "a.pt: reading .pt needs torch: pip install torch, or save it as .npz",
        "writing .pt needs torch: pip install torch, or write .json",
        "a.yaml: reading .yaml needs PyYAML: pip install pyyaml, or save it as .json",
    ]
