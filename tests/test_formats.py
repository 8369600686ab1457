"""Load files: what is in them comes out as it is, and what is wrong with them is told in plain words."""

import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trimtab.errors import TrimtabError
from trimtab.formats import READERS, WRITERS, FileError, read_loads, write_loads
from trimtab.synthetic import generate_loads

LOAD = generate_loads(3, 8)
Make = Callable[[Path], Any]


def raw(content: bytes) -> Make:
    """A file of these bytes."""
    return lambda path: path.write_bytes(content)


def json_of(text: str) -> Make:
    """A file of `{"logical_count": text}`."""
    return raw(b'{"logical_count": %s}' % text.encode())


def npy(array: Any) -> Make:
    """What numpy.save writes, whatever the file is called."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    return write


def npz(**arrays: Any) -> Make:
    """What numpy.savez writes, whatever the file is called."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **arrays)

    return write


def pt(value: Any) -> Make:
    """What torch.save writes."""
    return lambda path: torch.save(value, path)


def cut(make: Make, size: int) -> Make:
    """The first bytes of a good file."""

    def write(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes()[:size])

    return write


def claiming(shape: str) -> bytes:
    """An .npy file with a header for much, and eight bytes after it."""
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8)


def zipped(name: str, content: bytes) -> Make:
    """An archive with one member."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)

    return write


TENSOR = torch.from_numpy(LOAD.copy())


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("loads.json", json_of(str(LOAD.tolist()))),
        ("loads.JSON", json_of(str(LOAD.astype(float).tolist()))),
        ("loads.npy", npy(LOAD)),
        ("loads.npy", npy(np.asfortranarray(LOAD.astype(">i8")))),
        ("key.npz", npz(other=LOAD + 1, weight=LOAD + 1, logical_count=LOAD)),
        ("key.npz", npz(other=LOAD + 1, load=LOAD)),
        ("key.npz", npz(other=LOAD + 1, weight=LOAD)),
        ("only.npz", npz(anything=LOAD)),
        ("tensor.pt", pt(TENSOR)),
        ("dictionary.pt", pt({"rank": 0, "logical_count": TENSOR, "average_utilization_rate_over_window": None})),
        ("lists.pt", pt({"logical_count": LOAD.tolist()})),
        ("gradient.pt", pt(TENSOR.double().requires_grad_())),
    ],
)
def test_loads_come_out_as_they_went_in(tmp_path: Path, name: str, make: Make) -> None:
    """Every kind of file, under every key it may have, with the values that were stored."""
    make(tmp_path / name)
    np.testing.assert_array_equal(read_loads(tmp_path / name), LOAD)


@pytest.mark.parametrize("ending", WRITERS)
def test_windows_are_kept(tmp_path: Path, ending: str) -> None:
    """What is written, with windows, is what is read; a path may be text."""
    windows = generate_loads(2, 5, num_windows=3)
    path = str(tmp_path / f"loads{ending}")
    write_loads(path, windows)
    back = read_loads(path)
    np.testing.assert_array_equal(back, windows)
    assert back.dtype == np.int64


def test_small_types_are_upcast(tmp_path: Path) -> None:
    """bfloat16, which numpy does not know, and int16 become types that a request carries."""
    pt(torch.ones(2, 2, dtype=torch.bfloat16))(tmp_path / "a.pt")
    npy(np.ones((2, 2), np.int16))(tmp_path / "a.npy")
    assert read_loads(tmp_path / "a.pt").dtype == np.float32
    assert read_loads(tmp_path / "a.npy").dtype == np.int32


def test_real_loads_are_read(traces: list[Path]) -> None:
    """The published profiles: 61 layers, three of them without load."""
    for path in traces:
        load = read_loads(path)
        assert load.shape == (61, 256)
        assert (load.sum(axis=1) == 0).tolist() == [True] * 3 + [False] * 58


BAD: list[tuple[str, Make, str]] = [
    *((f"empty{ending}", raw(b""), "is empty") for ending in READERS),
    *((f"folder{ending}", Path.mkdir, "is a folder; name one file in it") for ending in READERS),
    *((f"no{ending}", lambda _: None, "there is no such file; check the path") for ending in READERS),
    ("loads.csv", raw(b"1,2"), "its ending '.csv' is none of those that can be read: .json, .npy, .npz, .pt"),
    ("loads", raw(b"1,2"), "its ending '' is none of those"),
    ("x" * 300 + ".json", lambda _: None, "can't be read (File name too long)"),
    ("a.json", raw(b"not json"), "is not JSON (Expecting value: line 1 column 1 (char 0)); was it cut off"),
    ("a.json", npy(LOAD), "is not JSON ('utf-8' codec can't decode"),
    ("a.json", raw(b"[" * 200_000), "is not JSON ("),
    ("a.json", cut(json_of(str(LOAD.tolist())), 60), "is not JSON ("),
    ("a.json", raw(b"[[1, 2]]"), 'must hold {"logical_count": [[...], ...]}, holds [[1, 2]]'),
    ("a.json", raw(b'{"load": 1}'), 'must hold {"logical_count": [[...], ...]}, holds {"load": 1}'),
    ("a.json", json_of("[[1, 2], [3]]"), "must be of one length, they have from 1 to 2 values; give each layer"),
    ("a.json", json_of("[[[1]], [[1], [2]]]"), "must be of one length, they have from 1 to 2 values"),
    ("a.json", json_of("[[1, 2], 3]"), "must hold numbers and nothing else, holds [1, 2]"),
    ("a.json", json_of('[[1, "b"]]'), 'must hold numbers and nothing else, holds "b"'),
    ("a.json", json_of("[[1, null]]"), "must hold numbers and nothing else, holds null"),
    ("a.json", json_of("[[true]]"), "must hold numbers and nothing else, holds true"),
    ("a.json", json_of("null"), "must hold numbers and nothing else, holds null"),
    ("a.json", json_of("[[1, 1" + "0" * 30 + "]]"), "does not hold numbers (must hold integers or floats of up to 64"),
    ("a.json", json_of("5"), "its loads have shape []; they must have shape [layers, experts]"),
    ("a.json", json_of("[1, 2]"), "its loads have shape [2]; they must have shape [layers, experts]"),
    ("a.json", json_of("[[[[1]]]]"), "its loads have shape [1, 1, 1, 1]; they must have shape"),
    ("a.json", json_of("[]"), "its loads have shape [0]; they must have shape"),
    ("a.json", json_of("[[], []]"), "its loads have shape [2, 0]; they must have shape"),
    ("a.json", json_of("[[1, NaN]]"), "every load must be finite and at least 0, got nan at [0, 1]"),
    ("a.json", json_of("[[[1]], [[-2]]]"), "every load must be finite and at least 0, got -2 at [1, 0, 0]"),
    ("a.npy", raw(b"hello"), "is not one array, as numpy.save writes it; save it again"),
    ("a.npy", raw(pickle.dumps([[1]])), "is not one array, as numpy.save writes it; save it again"),
    ("a.npy", npz(load=LOAD), "is not one array, as numpy.save writes it; it looks like .npz, give it that ending"),
    ("a.npy", cut(npy(LOAD), 40), "can't be read as .npy (EOF: reading array header"),
    ("a.npy", cut(npy(LOAD), 200), "can't be read as .npy (mmap length is greater than file size)"),
    ("a.npy", raw(claiming("(1073741824, 1024)")), "can't be read as .npy (mmap length is greater than file size)"),
    ("a.npy", raw(claiming("(1152921504606846976, 8)")), "can't be read as .npy ("),
    ("a.npy", npy(np.array([[None]])), "can't be read as .npy (Array can't be memory-mapped: Python objects in dtype"),
    ("a.npy", npy(LOAD.astype(complex)), "does not hold numbers (must hold integers or floats of up to 64 bits"),
    ("a.npy", npy(LOAD.astype("M8[s]")), "does not hold numbers ("),
    ("a.npy", npy(np.zeros((0, 4))), "its loads have shape [0, 4]; they must have shape"),
    ("a.npz", raw(b"hello"), "is not an archive of arrays, as numpy.savez writes it; save it again"),
    ("a.npz", npy(LOAD), "is not an archive of arrays, as numpy.savez writes it; it looks like .npy, give it that"),
    ("a.npz", raw(b"PK\x03\x04" + bytes(60)), "can't be read as .npz (File is not a zip file)"),
    ("a.npz", cut(npz(load=LOAD), 200), "can't be read as .npz (File is not a zip file)"),
    ("a.npz", npz(a=LOAD, b=LOAD), "must hold one array, or one named logical_count, load, weight; holds a, b"),
    ("a.npz", npz(), "must hold one array, or one named logical_count, load, weight; holds no arrays"),
    ("a.npz", npz(load=np.array([[None]])), "can't be read as .npz (Object arrays cannot be loaded"),
    ("a.npz", zipped("load.npy", claiming("(1152921504606846976, 8)")), "can't be read as .npz ("),
    ("a.npz", zipped("load.txt", b"1 2 3"), "does not hold numbers ("),
    ("a.pt", raw(b"hello"), "is not a whole .pt file, or has Python objects in it, which are never loaded; save"),
    ("a.pt", raw(pickle.dumps({"logical_count": [[1]]}, 4)), "is not a whole .pt file, or has Python objects in it"),
    ("a.pt", npy(LOAD), "is not a whole .pt file, or has Python objects in it"),
    ("a.pt", cut(pt(TENSOR), 300), "is not a whole .pt file, or has Python objects in it"),
    ("a.pt", pt(Path("x")), "is not a whole .pt file, or has Python objects in it"),
    ("a.pt", pt({"records": [1], "rank": 0}), "must hold a tensor or a dictionary with logical_count, holds records,"),
    ("a.pt", pt({}), "must hold a tensor or a dictionary with logical_count, holds nothing; save"),
    ("a.pt", pt(None), "must hold a tensor or a dictionary with logical_count, holds nothing; save"),
    ("a.pt", pt({"logical_count": [[1], [1, 2]]}), "does not hold numbers (is not a rectangular array"),
    ("a.pt", pt(torch.eye(3).to_sparse()), "can't be read as .pt (can't convert Sparse"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD, ids=[f"{n[:12]}-{m[:40]}" for n, _, m in BAD])
def test_bad_files_are_told_apart(tmp_path: Path, name: str, make: Make, message: str) -> None:
    """Each ends in one error of our own, one line that names the file and begins as expected."""
    path = tmp_path / name
    make(path)
    with pytest.raises(FileError) as caught:
        read_loads(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "allow_pickle=`" not in str(caught.value)  # numpy's advice to load a stranger's pickle
    assert isinstance(caught.value, TrimtabError)


@pytest.mark.parametrize(("name", "where"), [("a.json", "pathlib.Path.read_bytes"), ("a.pt", "torch.load")])
def test_a_file_without_the_right_to_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """The system's own reason is passed on (made up here: root may read everything)."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(where, refuse)
    with pytest.raises(FileError, match=r"can't be read \(Permission denied\)"):
        read_loads(tmp_path / name)


def test_an_archive_cannot_run_code(tmp_path: Path) -> None:
    """A pickle that would leave a trace, in every kind that could hold one, leaves none."""
    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (trace,))

    npy(np.array([[Evil()]], object))(tmp_path / "a.npy")
    npz(load=np.array([[Evil()]], object))(tmp_path / "a.npz")
    pt(Evil())(tmp_path / "a.pt")
    for ending in (".npy", ".npz", ".pt"):
        with pytest.raises(FileError):
            read_loads(tmp_path / f"a{ending}")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.csv", "its ending '.csv' is none of those that can be written: .json, .npy, .npz"),
        ("a.pt", "its ending '.pt' is none of those that can be written: .json, .npy, .npz"),
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
    """Without torch other kinds are read, and .pt says what to install."""
    write_loads(tmp_path / "a.npz", LOAD)
    (tmp_path / "a.pt").write_bytes(b"x")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from trimtab.formats import read_loads\n"
        "print(read_loads('a.npz').shape)\n"
        "try: read_loads('a.pt')\n"
        "except Exception as error: print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.splitlines() == [
        "(3, 8)",
        "a.pt: reading .pt needs torch: pip install torch, or save the loads as .npz",
    ]
