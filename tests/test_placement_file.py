"""Placement files: what is written is what is read and what SGLang reads, and a bad file is told in one plain line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trimtab.formats import FileError, json_file, read_placement, write_placement

PLACEMENT = np.array([[0, 1, 2, 0], [2, -1, 1, 0]])
Make = Callable[[Path], Any]


def json_of(text: str) -> Make:
    """A file of `{"physical_to_logical_map": text}`."""
    return lambda path: path.write_text(f'{{"physical_to_logical_map": {text}}}')


def npy(array: Any) -> Make:
    """What numpy.save writes."""
    return lambda path: np.save(path, array)


def npz(**arrays: Any) -> Make:
    """What numpy.savez writes."""
    return lambda path: np.savez(path, **arrays)


def test_what_is_written_is_what_sglang_takes(tmp_path: Path) -> None:
    """One key, a list a layer, whole numbers; read back it is the same, and nothing else is left in the folder."""
    path = tmp_path / "placement.json"
    write_placement(str(path), PLACEMENT)
    assert json.loads(path.read_text()) == {"physical_to_logical_map": [[0, 1, 2, 0], [2, -1, 1, 0]]}
    back = read_placement(str(path))
    np.testing.assert_array_equal(back, PLACEMENT)
    assert back.dtype == np.int64
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        (
            "a.json",
            lambda path: path.write_text('{"rank": 0, "physical_to_logical_map": [[0, 1, 2, 0], [2, -1, 1, 0]]}'),
        ),
        ("a.npy", npy(PLACEMENT.astype(np.int16))),
        ("a.npz", npz(physical_to_logical_map=PLACEMENT, other=PLACEMENT + 1)),
        ("a.npz", npz(anything=PLACEMENT)),
    ],
)
def test_every_kind_is_read(tmp_path: Path, name: str, make: Make) -> None:
    """Whatever else is in the file, and however small its numbers are."""
    make(tmp_path / name)
    back = read_placement(tmp_path / name)
    np.testing.assert_array_equal(back, PLACEMENT)
    assert back.dtype == np.int64


WHOLE = "every slot must hold a whole number, that of its expert, or -1 where it is empty, got"
BAD: list[tuple[str, Make, str]] = [
    ("no.json", lambda _: None, "there is no such file; check the path"),
    ("folder.json", Path.mkdir, "is a folder; name one file in it"),
    ("empty.npy", lambda path: path.write_bytes(b""), "is empty; whatever should have written it did not"),
    (
        "a.pt",
        lambda path: path.write_bytes(b"x"),
        "its ending '.pt' is none of those that can be read: .json, .npy, .npz",
    ),
    ("a.json", lambda path: path.write_text("{"), "is not JSON ("),
    ("a.json", lambda path: path.write_text('{"logical_count": [[1]]}'), 'must hold {"physical_to_logical_map": [[...'),
    (
        "a.json",
        json_of("[[0, 1], [0]]"),
        "the rows of physical_to_logical_map must be of one length, they have from 1 to",
    ),
    ("a.json", json_of("[[0, 1], [0]]"), "give each layer every slot, -1 where it is empty"),
    ("a.json", json_of('[[0, "1"]]'), 'physical_to_logical_map must hold numbers and nothing else, holds "1"'),
    ("a.json", json_of("[[0, null]]"), "physical_to_logical_map must hold numbers and nothing else, holds null"),
    ("a.json", json_of("[[0, 1.5]]"), f"{WHOLE} 1.5 at [0, 1]"),
    ("a.json", json_of("[[0, NaN]]"), f"{WHOLE} nan at [0, 1]"),
    ("a.json", json_of("[[0.0, 1.0]]"), f"{WHOLE} 0.0 at [0, 0]"),
    ("a.json", json_of("[[0, 1], [2, -2]]"), f"{WHOLE} -2 at [1, 1]"),
    ("a.json", json_of("[[1" + "0" * 30 + "]]"), "does not hold numbers ("),
    ("a.json", json_of("[0, 1]"), "its placement has shape [2]; it must have shape [layers, slots]"),
    ("a.json", json_of("[[[0]]]"), "its placement has shape [1, 1, 1]; it must have shape [layers, slots]"),
    ("a.json", json_of("[]"), "its placement has shape [0]; it must have shape [layers, slots]"),
    ("a.npy", npy(PLACEMENT * 1.0), f"{WHOLE} 0.0 at [0, 0]"),
    ("a.npz", npz(pack_index=PLACEMENT, physical_to_logical=PLACEMENT), "or one named physical_to_logical_map; holds"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD, ids=[f"{n}-{m[-40:]}" for n, _, m in BAD])
def test_bad_files_are_told_apart(tmp_path: Path, name: str, make: Make, message: str) -> None:
    """Each ends in one error of our own, one line that names the file."""
    make(tmp_path / name)
    with pytest.raises(FileError) as caught:
        read_placement(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.npz", "its ending '.npz' is none of those that can be written: .json"),
        ("no/a.json", "can't be written (No such file or directory)"),
        ("folder.json", "can't be written (Is a directory)"),
        ("x" * 300 + ".json", "can't be written (File name too long)"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path: Path, name: str, message: str) -> None:
    """A kind that is only read, no folder, a folder, a name that no disk takes; nothing is left behind."""
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(FileError) as caught:
        write_placement(tmp_path / name, PLACEMENT)
    assert message in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


def test_a_write_that_fails_half_way_leaves_the_old_placement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after some bytes: who reads the file finds the old placement, whole, and no rest beside it."""
    path = tmp_path / "placement.json"
    write_placement(path, PLACEMENT)

    def fill_the_disk(beside: Path, *_: Any) -> None:
        beside.write_text('{"physical_to_log')
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json_file, "write", fill_the_disk)
    with pytest.raises(FileError, match=r"can't be written \(No space left on device\)"):
        write_placement(path, PLACEMENT + 1)
    np.testing.assert_array_equal(read_placement(path), PLACEMENT)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The placement goes to where the link leads."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "there" / "placement.json")
    write_placement(tmp_path / "link.json", PLACEMENT)
    assert (tmp_path / "link.json").is_symlink()
    np.testing.assert_array_equal(read_placement(tmp_path / "there" / "placement.json"), PLACEMENT)
    assert list((tmp_path / "there").iterdir()) == [tmp_path / "there" / "placement.json"]
