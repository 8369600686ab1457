"""vLLM's load statistics, line by line: replicas summed under each line's own map, and a broken line told by number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.format_files import Array, raw, told, vllm_line
from trimtab.formats import FileError, FormatError, LoadWindows, Source, read_loads, read_placement, vllm, what_is_in

MAP = np.array([[0, 1, 2, 0], [2, 0, 1, 1]])
LOADS = np.random.default_rng(0).integers(0, 1000, (5, 2, 4))


def logical(load: Array, p2l_map: Array = MAP) -> list[list[float]]:
    """Tokens of experts, the plain way."""
    return [
        [row[slots == expert].sum() for expert in range(p2l_map.max() + 1)]
        for row, slots in zip(load, p2l_map, strict=True)
    ]


def read(folder: Path, text: str, at_most: int | None = None) -> LoadWindows:
    """Lines in a file."""
    (folder / "stats.jsonl").write_text(text)
    return read_loads(folder / "stats.jsonl", at_most=at_most)


def test_lines_are_windows(tmp_path: Path) -> None:
    """Each with its experts' tokens; the placement is that of the lines, on as many GPUs as there were ranks."""
    windows = read(tmp_path, "".join(vllm_line(load, MAP, step=number) for number, load in enumerate(LOADS)))
    assert windows.load.tolist() == [logical(load) for load in LOADS]
    assert (windows.num_read, windows.layers.tolist()) == (5, [0, 1])
    for placement in (windows.placement, read_placement(tmp_path / "stats.jsonl")):
        assert placement is not None
        np.testing.assert_array_equal(placement.physical_to_logical, MAP)
        assert (placement.num_gpus, placement.layers.tolist()) == (2, [0, 1])


def test_the_map_may_change_from_line_to_line(tmp_path: Path) -> None:
    """Also in its number of slots and ranks, when GPUs come or go: each line counts under its own; the last is told."""
    wider = np.array([[0, 1, 2, 2, 1, -1], [1, 2, -1, 0, 0, 0]])
    load = np.arange(12).reshape(2, 6)
    lines = [vllm_line(LOADS[0], MAP), vllm_line(LOADS[1], MAP[:, ::-1]), vllm_line(load, wider, num_ranks=3)]
    windows = read(tmp_path, "".join([*lines, lines[2]]))
    assert windows.load.tolist() == [
        logical(LOADS[0]),
        logical(LOADS[1], MAP[:, ::-1]),
        logical(load, wider),
        logical(load, wider),
    ]
    assert windows.placement is not None
    np.testing.assert_array_equal(windows.placement.physical_to_logical, wider)
    assert windows.placement.num_gpus == 3


META = '{"record_type": "eplb_load_meta", "version": 1, "model": "m", "num_ranks": 4, "num_layers": 2}\n'


def test_ranks_told_once(tmp_path: Path) -> None:
    """In a first line of its own; lines of other types, and empty ones, are left out."""
    other = '{"record_type": "session_metadata", "version": 9}\n\n'
    line = vllm_line(LOADS[0], MAP, num_ranks=None)
    windows = read(tmp_path, META + other + line + other + line)
    assert windows.num_read == 2
    for placement in (windows.placement, read_placement(tmp_path / "stats.jsonl")):
        assert placement is not None
        assert placement.num_gpus == 4
    windows = read(tmp_path, line)
    assert windows.placement is not None
    assert windows.placement.num_gpus is None


@pytest.mark.parametrize("cut_at", [1, 50, -40, -2])
def test_a_last_line_that_is_being_written(tmp_path: Path, cut_at: int) -> None:
    """It is left out; once it is whole it counts, with or without the end of line."""
    first, last = vllm_line(LOADS[0], MAP), vllm_line(LOADS[1], MAP[:, ::-1])
    assert read(tmp_path, first + last[:cut_at]).num_read == 1
    np.testing.assert_array_equal(read_placement(tmp_path / "stats.jsonl").physical_to_logical, MAP)
    assert read(tmp_path, first + last[:-1]).num_read == 2
    np.testing.assert_array_equal(read_placement(tmp_path / "stats.jsonl").physical_to_logical, MAP[:, ::-1])


def test_several_files(tmp_path: Path) -> None:
    """One after the other."""
    for number in range(3):
        (tmp_path / f"{number}.jsonl").write_text(vllm_line(LOADS[number], MAP))
    windows = read_loads(tmp_path)
    assert windows.load.tolist() == [logical(load) for load in LOADS[:3]]
    summed = read_loads(sorted(tmp_path.iterdir()), at_most=1)
    assert summed.load.tolist() == [logical(LOADS[:3].sum(axis=0))]
    assert summed.num_read == 3


def test_both_are_in_it(tmp_path: Path) -> None:
    """Loads and placement."""
    (tmp_path / "a").write_text(vllm_line(LOADS[0], MAP))
    assert what_is_in(Source(tmp_path / "a"), None) == {"loads", "placement"}


ODD = {
    "compact": lambda load: json.dumps(json.loads(vllm_line(load, MAP)), separators=(",", ":")),
    "sorted": lambda load: json.dumps(json.loads(vllm_line(load, MAP)), sort_keys=True),
    "map first": lambda load: json.dumps(dict(sorted(json.loads(vllm_line(load, MAP)).items(), reverse=True))),
    "floats": lambda load: vllm_line(load + 0.5, MAP).strip(),
    "large": lambda load: vllm_line(load * 10**15, MAP).strip(),
    "more keys": lambda load: vllm_line(load, MAP, model="x[[1, 2]]", other=[[1, 2]]).strip(),
}


@pytest.mark.parametrize("odd", ODD)
def test_lines_written_in_other_ways(tmp_path: Path, odd: str) -> None:
    """Whatever JSON allows gives the same numbers, in the first line of its kind and in those that follow."""
    text = "".join(ODD[odd](load) + "\n" for load in LOADS)
    windows = read(tmp_path, '{"record_type": "eplb_load_meta", "version": 1}\n' + text)
    expected = [logical(np.array(json.loads(line)["expert_load"])) for line in text.splitlines()]
    assert windows.load.tolist() == expected


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_lines(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Whatever the maps and how often they change: what is read is what json reads, summed the plain way."""
    num_layers, num_slots = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    num_experts = data.draw(st.integers(1, num_slots))
    count = st.integers(0, 10 ** data.draw(st.sampled_from([1, 3, 9, 17])))
    rows = st.lists(count, min_size=num_slots, max_size=num_slots)
    loads = data.draw(st.lists(st.lists(rows, min_size=num_layers, max_size=num_layers), min_size=1, max_size=6))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    maps = rng.integers(-1, num_experts, (2, num_layers, num_slots))
    maps[:, :, -1] = num_experts - 1
    chosen = [maps[data.draw(st.integers(0, 1))] for _ in loads]
    text = "".join(vllm_line(load, p2l, num_ranks=1) for load, p2l in zip(loads, chosen, strict=True))
    windows = read(tmp_path_factory.getbasetemp(), text)
    assert windows.load.tolist() == [
        logical(np.array(load, object), p2l) for load, p2l in zip(loads, chosen, strict=True)
    ]


GOOD = vllm_line(LOADS[0], MAP)
OTHER = vllm_line(LOADS[1], MAP)
BAD: list[tuple[str, str]] = [
    (GOOD + "hello\n" + GOOD, "line 2: is not JSON (Expecting value"),
    (GOOD + GOOD[:-30] + "\n", "line 2: is not JSON ("),
    (GOOD + GOOD[:-30] + GOOD, "line 2: is not JSON ("),
    (GOOD + "\n[1]\n", "line 3: has no record_type, it holds [1]"),
    (GOOD + '{"step": 1}\n', 'line 2: has no record_type, it holds {"step": 1}'),
    (GOOD + OTHER.replace('"version": 1', '"version": 2'), "line 2: is of version 2; known is 1"),
    (vllm_line(LOADS[0], MAP, version=None), "line 1: is of version null; known is 1"),
    (GOOD + vllm_line(LOADS[0], MAP, p2l_map=None), "line 2: lacks p2l_map"),
    (GOOD + vllm_line(0, 0, expert_load=None, p2l_map=None), "line 2: lacks expert_load and p2l_map"),
    (vllm_line(LOADS[0], MAP, num_ranks="two"), 'line 1: has "two" as num_ranks'),
    (vllm_line(LOADS[0], MAP, num_ranks=3), "line 1: has 4 slots a layer on 3 GPUs, which must hold equally many"),
    (vllm_line(LOADS[0], MAP, num_ranks=0), "line 1: has 4 slots a layer on 0 GPUs"),
    (vllm_line(LOADS[0], MAP[:, :2] // 2), "line 1: has expert_load of shape [2, 4], but p2l_map of [2, 2]"),
    (vllm_line(LOADS[0, 0], MAP), "line 1: has expert_load of shape [4], but p2l_map of [2, 4]"),
    (vllm_line(0, MAP, expert_load=[[1, 2, 3, 4], [1, 2, 3]]), "line 1: the rows of expert_load must be of one length"),
    (
        vllm_line(0, MAP, expert_load=[[1, 2, 3, None]] * 2),
        "line 1: expert_load must hold numbers and nothing else, holds",
    ),
    (vllm_line(0, MAP, expert_load=[[1, 2, 3, 10**30]] * 2), "line 1: does not hold numbers ("),
    (vllm_line(LOADS[0], MAP + 9), "line 1: has 11 as the highest expert of layers with 4 slots"),
    (vllm_line(LOADS[0], MAP - 2), "line 1: every slot must hold a whole number, that of its expert, or -1"),
    (
        vllm_line(LOADS[0], MAP) + vllm_line(LOADS[0], MAP[:1], expert_load=[[1] * 4]),
        "has [1, 3] layers and experts, those",
    ),
    (vllm_line(-LOADS[0] - 1, MAP), "every load must be finite and at least 0, got -"),
    (vllm_line(LOADS[0] * np.nan, MAP), "every load must be finite and at least 0, got nan at [0, 0, 0]"),
    (META, "has no whole line of type eplb_load_stats; was it recorded to the end of a first interval?"),
    (GOOD[:-20], "has no whole line of type eplb_load_stats"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_lines_are_told(tmp_path: Path, text: str, message: str) -> None:
    """One line that names the file, the line in it, and the rule."""
    (tmp_path / "a").write_text(text)
    assert message in told(read_loads, tmp_path / "a")


NUMBERS = json.dumps(LOADS[0].tolist())
CHANGES: list[tuple[str, str]] = [
    ("[[", "[[-"),
    (", ", ", , "),
    (", ", ","),
    (", ", " "),
    ("]]", ", 1]]"),
    ("]]", ", ]]"),
    ("]]", "]"),
    ("[[", "[["),
    ("], [", ", "),
    ("[[", "[[1.5e3, "),
    ("[[", "[[0x1"),
    ("[[", "[[\u0661"),
    ("[[", "[[1_0"),
    ("[[", "[[" + "9" * 25),
    (", ", ", " + "9" * 25),
    ("[[", "[[null, "),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_a_line_that_is_only_almost_like_the_one_before(tmp_path: Path, old: str, new: str) -> None:
    """What json does not read as whole numbers of that shape is not taken for such."""
    text = NUMBERS.replace(old, new, 1)
    line = GOOD.replace(NUMBERS, text)
    try:
        values = np.array(json.loads(text))
    except ValueError:
        values = np.zeros(0)
    if values.shape != (2, 4) or values.dtype.kind not in "if" or values.min() < 0:
        with pytest.raises(FileError):
            read(tmp_path, GOOD + line + GOOD)
    else:
        assert read(tmp_path, GOOD + line + GOOD).load.tolist() == [
            logical(LOADS[0]),
            logical(values),
            logical(LOADS[0]),
        ]


def test_numbers_that_are_not_where_they_belong(tmp_path: Path) -> None:
    """All brackets and commas in their places, but digits behind a bracket; with a number missing, or without."""
    last, second = str(LOADS[0, 0, 3]), str(LOADS[0, 0, 1])
    behind = NUMBERS.replace(f" {last}]", f" {last[:-1]}]{last[-1]}", 1)
    for text in (behind, behind.replace(f" {second},", " ,", 1)):
        (tmp_path / "a").write_text(GOOD + GOOD.replace(NUMBERS, text))
        assert "line 2: is not JSON (" in told(read_loads, tmp_path / "a")


def test_another_array_before_the_map(tmp_path: Path) -> None:
    """It is not taken for the loads, even where it has the same numbers once."""
    lines = [
        f'{{"record_type": "eplb_load_stats", "version": 1, "expert_load": {NUMBERS}, "p2l_map": {MAP.tolist()}}}\n',
        *(
            f'{{"record_type": "eplb_load_stats", "version": 1, "other": {other.tolist()}, "p2l_map": {MAP.tolist()}, '
            f'"expert_load": {NUMBERS}}}\n'
            for other in LOADS
        ),
    ]
    assert read(tmp_path, "".join(lines)).load.tolist() == [logical(LOADS[0])] * 6


def test_a_number_left_out_is_not_zero(tmp_path: Path) -> None:
    """The first, one between, the last of a row, the last of all."""
    for old, new in ((f"[[{LOADS[0, 0, 0]}", "[["), (f" {LOADS[0, 0, 1]},", " ,"), (f"{LOADS[0, 1, 3]}]]", "]]")):
        line = GOOD.replace(NUMBERS, NUMBERS.replace(old, new, 1))
        assert line != GOOD
        (tmp_path / "a").write_text(GOOD + line + GOOD)
        assert "line 2: is not JSON (" in told(read_loads, tmp_path / "a")


def test_what_is_not_vllms(tmp_path: Path) -> None:
    """Named as such, other files end in one line too; no placement can be written."""
    for make in (raw(b"\x93NUMPY" + bytes(99)), raw("[[1, 2]]"), raw(b"\xff" * 40)):
        make(tmp_path / "a")
        for call in (read_loads, read_placement):
            with pytest.raises(FileError):
                call(tmp_path / "a", format_name="vllm")
    (tmp_path / "a").write_text(GOOD)
    with pytest.raises(FormatError, match="vLLM takes no placement at start"):
        vllm.placement_bytes(read_placement(tmp_path / "a"), ".json")


def test_a_line_like_the_one_before_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first line is, and the first after each change of the map."""
    parsed = []

    def loads(line: bytes) -> Any:
        parsed.append(line)
        return json.loads(line)

    monkeypatch.setattr(vllm, "json", type("json", (), {"loads": staticmethod(loads)}))
    lines = [vllm_line(load, MAP, step=10**number) for number, load in enumerate(LOADS)]
    other = vllm_line(LOADS[0], MAP[:, ::-1])
    windows = read(tmp_path, "".join([*lines, other, other]))
    assert windows.num_read == 7
    assert len(parsed) == 2
