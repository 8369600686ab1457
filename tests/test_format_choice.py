"""Which format a file is of, and which one is written; folders, standard input and output."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.format_files import Array, Make, claiming, json_of, npy, npz, pt, raw, told
from trimtab.formats import (
    FORMATS,
    NAMES,
    STANDARD,
    FileError,
    FormatError,
    Source,
    format_to_write,
    read_loads,
    what_is_in,
    write_loads,
)
from trimtab.formats.folding import Folding
from trimtab.synthetic import generate_loads

LOAD = generate_loads(3, 8)
TENSOR = torch.from_numpy(LOAD.copy())


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    """Of several formats, one after the other; hidden files and folders in it are left alone."""
    npy(LOAD + 2)(tmp_path / "3")
    json_of(logical_count=LOAD.tolist())(tmp_path / "1")
    npy(generate_loads(3, 8, num_windows=2))(tmp_path / "2")
    raw("nothing to read")(tmp_path / ".hidden")
    (tmp_path / "deeper").mkdir()
    read = read_loads(tmp_path)
    assert read.load.shape == (4, 3, 8)
    assert read.num_read == 4
    np.testing.assert_array_equal(read.load[0], LOAD)
    np.testing.assert_array_equal(read.load[3], LOAD + 2)
    summed = read_loads([tmp_path / "3", tmp_path], at_most=1)
    np.testing.assert_array_equal(summed.load[0], read.load.sum(axis=0) + LOAD + 2)
    assert summed.num_read == 5


def test_one_file_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read to find out what a file holds is let go: a week of files can be many."""
    makers = [json_of(logical_count=LOAD.tolist()), pt(TENSOR)] * 3
    for number, make in enumerate(makers):
        make(tmp_path / str(number))
    sources = [Source(path) for path in sorted(tmp_path.iterdir())]
    held = []

    def add(self: Folding, source: Source, load: Array) -> None:
        held.append(sum(bool({"json", "torch"} & vars(source).keys()) for source in sources))
        own_add(self, source, load)

    own_add = Folding.add
    monkeypatch.setattr(Folding, "add", add)
    assert read_loads(sources).num_read == 6
    assert held == [1] * 6


def test_an_empty_folder(tmp_path: Path) -> None:
    """Nothing in it to be read."""
    (tmp_path / ".hidden").touch()
    assert "is a folder without files; name one with dumps in it" in told(read_loads, tmp_path)


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    """Other layers or experts, of one format and of two: the file is named."""
    npy(LOAD)(tmp_path / "1.npy")
    for number, make in enumerate([npy(LOAD[:2]), json_of(logical_count=LOAD[:, :7].tolist())]):
        make(tmp_path / f"{number}")
        with pytest.raises(FileError, match=r"layers and experts, those before have \[3, 8\]") as caught:
            read_loads([tmp_path / "1.npy", tmp_path / f"{number}"])
        assert caught.value.path == str(tmp_path / f"{number}")


@pytest.mark.parametrize("make", [npy(LOAD), npz(load=LOAD), pt(TENSOR), json_of(logical_count=LOAD.tolist())])
def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    """Every kind can be piped in; opened once, it is looked at and read as often as one likes."""
    make(tmp_path / "piped")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO((tmp_path / "piped").read_bytes())))
    source = Source(STANDARD)
    assert "loads" in what_is_in(source, None)
    np.testing.assert_array_equal(read_loads(source).load[0], LOAD)
    np.testing.assert_array_equal(read_loads([source, source]).load[1], LOAD)


def test_standard_input_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called standard input, also where it claims to be large, and where it is empty."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(claiming("(1152921504606846976, 8)"))))
    assert "can't be read as npy (" in told(read_loads, STANDARD, "standard input")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO()))
    assert "is empty" in told(read_loads, STANDARD, "standard input")


def test_standard_output(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """Loads go there as JSON."""
    write_loads(STANDARD, LOAD)
    assert capsysbinary.readouterr().out == b'{"logical_count": %s}' % str(LOAD.tolist()).encode()


def test_a_format_can_be_named(tmp_path: Path) -> None:
    """It is then taken, and an unknown name lists those known."""
    json_of(logical_count=LOAD.tolist())(tmp_path / "a")
    np.testing.assert_array_equal(read_loads(tmp_path / "a", format_name="sglang").load[0], LOAD)
    for name in NAMES:
        if name != "sglang":
            with pytest.raises(FormatError):
                read_loads(tmp_path / "a", format_name=name)
    with pytest.raises(FormatError, match=f"format 'sgl' is none of those known: {', '.join(NAMES)}"):
        read_loads(tmp_path / "a", format_name="sgl")


def test_what_is_in_a_file_that_no_format_knows(tmp_path: Path) -> None:
    """The same words, with the format where one was named."""
    raw("hello")(tmp_path / "a")
    assert "is of no known format, it begins with" in told(lambda path: what_is_in(Source(path), None), tmp_path / "a")
    assert "is of no format vllm, it begins" in told(lambda path: what_is_in(Source(path), "vllm"), tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("a.json", None, ("sglang", ".json")),
        ("a.PT", None, ("sglang", ".pt")),
        ("a.yaml", None, ("tensorrt-llm", ".yaml")),
        ("a.yml", None, ("tensorrt-llm", ".yml")),
        ("a.npy", None, ("plain", ".npy")),
        ("a.npz", None, ("plain", ".npz")),
        ("deep/expert_map.json", None, ("vllm-ascend", ".json")),
        ("a.json", "vllm-ascend", ("vllm-ascend", ".json")),
        ("expert_map.json", "sglang", ("sglang", ".json")),
        ("-", None, ("sglang", ".json")),
        ("-", "tensorrt-llm", ("tensorrt-llm", ".yaml")),
        ("-", "plain", ("plain", ".npy")),
    ],
)
def test_the_format_that_is_written(name: str, asked: str | None, expected: tuple[str, str]) -> None:
    """By the ending, by a usual name, or as asked."""
    module, ending = format_to_write(name, asked)
    assert (module.NAME, ending) == expected


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("a.csv", None, "its ending '.csv' is none of those that can be written: .json, .npy, .npz, .pt, .yaml, .yml"),
        ("a.yaml", "sglang", "its ending '.yaml' is none of those that can be written: .json, .pt"),
        (
            "a.json",
            "vllm",
            "vllm: the engine takes no placement at start; write one of plain, sglang, tensorrt-llm, vllm-",
        ),
        ("-", "vllm", "the engine takes no placement at start"),
    ],
)
def test_no_format_is_written(name: str, asked: str | None, message: str) -> None:
    """An ending of none, or not of the one asked for; an engine that reads none."""
    with pytest.raises(FormatError) as caught:
        format_to_write(name, asked)
    assert message in str(caught.value)


def test_every_format_says_what_it_reads() -> None:
    """Each has what the help of a command shows, under its own name."""
    assert all(module.READS and name == module.NAME for name, module in FORMATS.items())
