"""Placement files: what is written is what is read, in every format and between them; bad files are told plainly."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.format_files import Make, json_of, npy, npz, placements, pt, raw, told
from trimtab.formats import (
    FORMATS,
    STANDARD,
    FileError,
    FormatError,
    StoredPlacement,
    read_placement,
    write_placement,
)

PLACEMENT = np.array([[0, 1, 2, 0], [2, -1, 1, 0]])
PLACEMENT_TEXT = "[[0, 1, 2, 0], [2, -1, 1, 0]]"
WRITTEN = [(name, ending) for name, module in FORMATS.items() for ending in module.PLACEMENT_ENDINGS]


def test_what_is_written_is_what_sglang_takes(tmp_path: Path) -> None:
    """One key and no other, a list a layer, whole numbers; read back it is the same, and nothing else is left there."""
    path = tmp_path / "placement.json"
    write_placement(str(path), PLACEMENT)
    assert json.loads(path.read_text()) == {"physical_to_logical_map": [[0, 1, 2, 0], [2, -1, 1, 0]]}
    back = read_placement(str(path))
    np.testing.assert_array_equal(back.physical_to_logical, PLACEMENT)
    assert back.physical_to_logical.dtype == np.int64
    assert (back.layers.tolist(), back.num_gpus, back.num_experts) == ([0, 1], None, 3)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.json", json_of(rank=0, physical_to_logical_map=PLACEMENT_TEXT)),
        ("a.json", raw(PLACEMENT_TEXT)),
        ("a.npy", npy(PLACEMENT.astype(np.int16))),
        ("a.npz", npz(physical_to_logical_map=PLACEMENT, other=PLACEMENT + 1)),
        ("a.npz", npz(physical_to_logical=PLACEMENT, pack_index=PLACEMENT + 1)),
        ("a.npz", npz(anything=PLACEMENT)),
        ("a.pt", pt({"physical_to_logical_map": torch.from_numpy(PLACEMENT)})),
        ("a", npy(PLACEMENT.astype(np.int8))),
    ],
)
def test_every_kind_is_read(tmp_path: Path, name: str, make: Make) -> None:
    """Whatever else is in the file, and however small its numbers are."""
    make(tmp_path / name)
    back = read_placement(tmp_path / name).physical_to_logical
    np.testing.assert_array_equal(back, PLACEMENT)
    assert back.dtype == np.int64


@pytest.mark.parametrize(("name", "ending"), WRITTEN)
@settings(max_examples=15, deadline=None)
@given(placement=placements())
def test_every_format_keeps_a_placement(
    tmp_path_factory: pytest.TempPathFactory, name: str, ending: str, placement: StoredPlacement
) -> None:
    """Slots come back as they are; layers by number, or counted from 0 as the engine does, or as rows among all."""
    path = tmp_path_factory.getbasetemp() / f"kept{ending}"
    write_placement(path, placement, format_name=name)
    back = read_placement(path)
    layers = placement.layers
    if name == "sglang":  # dense layers have rows too
        assert back.layers.tolist() == list(range(layers[-1] + 1))
        back = back.only(layers)
    elif name in ("plain", "vllm-ascend"):  # numbers are not written
        assert back.layers.tolist() == list(range(len(layers)))
    else:
        assert back.layers.tolist() == layers.tolist()
    np.testing.assert_array_equal(back.physical_to_logical, placement.physical_to_logical)
    assert back.num_gpus == (placement.num_gpus if name == "vllm-ascend" else None)


@settings(max_examples=25, deadline=None)
@given(placement=placements(), chain=st.lists(st.sampled_from(WRITTEN), min_size=2, max_size=5))
def test_chains_of_formats(
    tmp_path_factory: pytest.TempPathFactory, placement: StoredPlacement, chain: list[tuple[str, str]]
) -> None:
    """Written in one format, read, written in the next: the slots of the layers stay what they are."""
    folder = tmp_path_factory.getbasetemp()
    now = placement
    for name, ending in chain:
        write_placement(folder / f"chain{ending}", now, format_name=name)
        read = read_placement(folder / f"chain{ending}", format_name=name)
        read = read.only(now.layers) if name == "sglang" else read
        now = StoredPlacement(read.physical_to_logical, placement.layers, placement.num_gpus)
    np.testing.assert_array_equal(now.physical_to_logical, placement.physical_to_logical)


@pytest.mark.parametrize(("name", "ending"), [pair for pair in WRITTEN if pair[0] in ("plain", "sglang")])
@settings(max_examples=10, deadline=None)
@given(placement=placements(filled=False))
def test_empty_slots_are_kept(
    tmp_path_factory: pytest.TempPathFactory, name: str, ending: str, placement: StoredPlacement
) -> None:
    """Those of dead GPUs, in the formats that a placement to go on from is kept in."""
    path = tmp_path_factory.getbasetemp() / f"empty{ending}"
    write_placement(path, placement.numbered_from(0).physical_to_logical, format_name=name)
    np.testing.assert_array_equal(read_placement(path).physical_to_logical, placement.physical_to_logical)


def test_layers_are_numbered_and_chosen() -> None:
    """Counted from another number; rows by their numbers."""
    placement = StoredPlacement(PLACEMENT, np.array([3, 5]), 2).numbered_from(10)
    assert placement.layers.tolist() == [10, 12]
    chosen = placement.only(np.array([12]))
    assert (chosen.layers.tolist(), chosen.physical_to_logical.tolist(), chosen.num_gpus) == ([12], [[2, -1, 1, 0]], 2)


WHOLE = "every slot must hold a whole number, that of its expert, or -1 where it is empty, got"
BAD: list[tuple[Make, str]] = [
    (lambda _: None, "there is no such file; check the path"),
    (Path.mkdir, "is a folder; name one file in it"),
    (raw(b""), "is empty; whatever should have written it did not"),
    (raw(b"x"), 'is of no known format, it begins with "x"; known are plain'),
    (raw("{"), "is not JSON ("),
    (json_of(logical_count=[[1]]), "holds no placement, it is a loads file of sglang"),
    (pt(torch.ones(2, 2)), "holds no placement, it is a loads file of sglang"),
    (npz(logical_count=PLACEMENT), "holds no placement, it is a loads file of plain"),
    (
        json_of(physical_to_logical_map=[[0, 1], [0]]),
        "the rows of physical_to_logical_map must be of one length, they have from 1 to 2 values; give each",
    ),
    (json_of(physical_to_logical_map=[[0, 1], [0]]), "give each layer every slot, -1 where it is empty"),
    (
        json_of(physical_to_logical_map=[[0, "1"]]),
        'physical_to_logical_map must hold numbers and nothing else, holds "1"',
    ),
    (
        json_of(physical_to_logical_map=[[0, None]]),
        "physical_to_logical_map must hold numbers and nothing else, holds null",
    ),
    (json_of(physical_to_logical_map=[[0, 1.5]]), f"{WHOLE} 1.5 at [0, 1]"),
    (json_of(physical_to_logical_map="[[0, NaN]]"), f"{WHOLE} nan at [0, 1]"),
    (json_of(physical_to_logical_map=[[0.0, 1.0]]), f"{WHOLE} 0.0 at [0, 0]"),
    (json_of(physical_to_logical_map=[[0, 1], [2, -2]]), f"{WHOLE} -2 at [1, 1]"),
    (json_of(physical_to_logical_map=f"[[1{'0' * 30}]]"), "does not hold numbers ("),
    (json_of(physical_to_logical_map=[0, 1]), "its placement has shape [2]; it must have shape [layers, slots]"),
    (json_of(physical_to_logical_map=[[[0]]]), "its placement has shape [1, 1, 1]; it must have shape [layers, slots]"),
    (json_of(physical_to_logical_map=[]), "its placement has shape [0]; it must have shape [layers, slots]"),
    (
        json_of(physical_to_logical_map=[[0, 2]]),
        "has 2 as the highest expert of layers with 2 slots; every expert needs",
    ),
    (json_of(physical_to_logical_map=[[-1, -1]]), "has -1 as the highest expert of layers with 2 slots; every expert"),
    (npy(PLACEMENT * 1.0), f"{WHOLE} 0.0 at [0, 0]"),
    (npz(a=PLACEMENT, b=PLACEMENT), "or one named physical_to_logical_map, physical_to_logical; holds a, b"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[-40:] for _, message in BAD])
def test_bad_files_are_told_apart(tmp_path: Path, make: Make, message: str) -> None:
    """Each ends in one error of our own, one line that names the file."""
    make(tmp_path / "a")
    assert message in told(read_placement, tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.csv", "its ending '.csv' is none of those that can be written: .json, .npy, .npz, .pt, .yaml, .yml"),
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


@pytest.mark.parametrize(
    ("name", "placement", "message"),
    [
        (
            "vllm",
            StoredPlacement(PLACEMENT[:1], np.arange(1), 2),
            "the engine takes no placement at start; write one of",
        ),
        (
            "tensorrt-llm",
            StoredPlacement(PLACEMENT, np.array([3, 4]), 2),
            "layer 4 has no expert in slot 1, and TensorRT-LLM takes no empty slots; place without inactive GPUs, on",
        ),
        ("vllm-ascend", StoredPlacement(PLACEMENT[:1], np.arange(1)), "say with --gpus how many there are"),
        (
            "vllm-ascend",
            StoredPlacement(PLACEMENT, np.array([3, 4]), 2),
            "layer 4 has no expert in slot 1, and vllm-ascend",
        ),
        (
            "vllm-ascend",
            StoredPlacement(np.array([[0, 1, 2, 2]]), np.array([5]), 2),
            "layer 5 has expert 2 twice on GPU 1, which vllm-ascend can't tell apart; place without duplicates",
        ),
    ],
)
def test_what_an_engine_does_not_take_is_told(
    tmp_path: Path, name: str, placement: StoredPlacement, message: str
) -> None:
    """What the format can't say, or the engine can't do, is said before anything is written."""
    with pytest.raises(FormatError) as caught:
        write_placement(
            tmp_path / "a.json" if name != "tensorrt-llm" else tmp_path / "a.yaml", placement, format_name=name
        )
    assert message in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_half_way_leaves_the_old_placement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after some bytes: who reads the file finds the old placement, whole, and no rest beside it."""
    path = tmp_path / "placement.json"
    write_placement(path, PLACEMENT)

    def fill_the_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fill_the_disk)
    with pytest.raises(FileError, match=r"can't be written \(No space left on device\)"):
        write_placement(path, PLACEMENT[:1])
    np.testing.assert_array_equal(read_placement(path).physical_to_logical, PLACEMENT)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The placement goes to where the link leads."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "there" / "placement.json")
    write_placement(tmp_path / "link.json", PLACEMENT)
    assert (tmp_path / "link.json").is_symlink()
    np.testing.assert_array_equal(read_placement(tmp_path / "there" / "placement.json").physical_to_logical, PLACEMENT)
    assert list((tmp_path / "there").iterdir()) == [tmp_path / "there" / "placement.json"]


@pytest.mark.parametrize("name", [None, "tensorrt-llm", "vllm-ascend", "plain"])
def test_standard_output_and_input(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], name: str | None
) -> None:
    """A placement can be piped from one command to the next, in any format."""
    placement = StoredPlacement(np.array([[0, 1, 2, 0]]), np.arange(1), 2)
    write_placement(STANDARD, placement, format_name=name)
    piped: Any = SimpleNamespace(buffer=io.BytesIO(capsysbinary.readouterr().out))
    monkeypatch.setattr("sys.stdin", piped)
    np.testing.assert_array_equal(read_placement(STANDARD).physical_to_logical, placement.physical_to_logical)
