"""The folder and the growing file that `trimtab watch` reads: nothing half, nothing twice, nothing lost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.watch_parts import EXPERTS, GPUS, LAYERS, drop, line_of, load_of, read
from trimtab.watch.folder import DumpFolder
from trimtab.watch.growing_file import GrowingFile
from trimtab.watch.sources import LoadSource, Taken


class Reader:
    """Looks at a source and remembers what it says to remember, as the journal does."""

    def __init__(self, source: LoadSource) -> None:
        self.source = source
        self.position: dict[str, Any] = {}
        self.taken: list[Taken] = []

    def look(self) -> list[Any]:
        """What a look finds: the first load of each window, or why there is none."""
        self.taken = list(self.source.poll(dict(self.position)))
        for taken in self.taken:
            self.position.update(taken.position)
            self.position = {key: value for key, value in self.position.items() if value is not None}
        return [_told(taken) for taken in self.taken if taken.windows or taken.failure or taken.note]


def _told(taken: Taken) -> Any:
    if taken.windows is not None:
        return taken.windows.load[:, 0, 0].tolist()
    return taken.failure[0] if taken.failure else taken.note


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    folder = tmp_path / "dumps"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(dumps: Path) -> Reader:
    return Reader(DumpFolder(dumps, read, most=3, left_out=frozenset({dumps / "placement.json"})))


def test_a_dump_is_read_when_it_has_stood_still_for_a_look(dumps: Path, folder: Reader) -> None:
    """Not at first sight, nor while it grows; once, and by a new reader with the same position not again."""
    path = drop(dumps, "a.json", load_of(1), at=5)
    whole = path.read_text()
    path.write_text(whole[:20])
    assert (folder.look(), folder.source.is_waiting) == ([], True)
    path.write_text(whole[:40])
    assert (folder.look(), folder.source.is_waiting) == ([], True)
    path.write_text(whole)
    assert folder.look() == []
    assert (folder.look(), folder.source.is_waiting) == ([[100]], False)
    assert folder.look() == []
    later = Reader(DumpFolder(dumps, read, most=3))
    later.position = folder.position
    assert [later.look() for _ in range(3)] == [[], [], []]


def test_dumps_are_read_in_the_order_of_their_changes(dumps: Path, folder: Reader) -> None:
    """Whatever their names; those of one moment by name."""
    for name, number, at in (("c.json", 1, 1), ("b.json", 3, 2), ("a.json", 2, 2)):
        drop(dumps, name, load_of(number), at=at)
    assert folder.look() == []
    assert folder.look() == [[100], [200], [300]]


def test_what_is_no_dump_is_left_alone(dumps: Path, folder: Reader) -> None:
    """Hidden files, folders, what is left out, and files without a byte yet."""
    (dumps / ".hidden.json").write_text("{}")
    (dumps / "below").mkdir()
    (dumps / "placement.json").write_text("{}")
    (dumps / "empty.json").touch()
    assert [folder.look() for _ in range(3)] == [[], [], []]
    assert folder.source.is_waiting


def test_a_bad_dump_is_told_once_until_it_changes(dumps: Path, folder: Reader) -> None:
    """The others are read; the bad one again when its content has changed."""
    (dumps / "bad.json").write_text('{"logical_count": [[1, 2], [3')
    drop(dumps, "good.json", load_of(1), at=1)
    assert folder.look() == []
    assert folder.look() == [[100], "unreadable"]
    assert "is not JSON" in str(folder.taken[1].failure)
    assert [folder.look() for _ in range(2)] == [[], []]
    drop(dumps, "bad.json", load_of(2), at=7)
    assert folder.look() == []
    assert folder.look() == [[200]]


def test_a_dump_that_was_replaced_is_read_again_and_one_that_is_gone_forgotten(dumps: Path, folder: Reader) -> None:
    """One name can be used over and over; the position does not grow with dumps that were."""
    for number in (1, 2):
        drop(dumps, "latest.json", load_of(number), at=number)
        assert folder.look() == []
        assert folder.look() == [[100 * number]]
    assert list(folder.position) == ["latest.json"]
    (dumps / "latest.json").unlink()
    assert folder.look() == []
    assert folder.position == {}


def test_of_many_dumps_only_those_that_are_kept_are_read(dumps: Path, folder: Reader) -> None:
    """The older ones are passed over, told, and never come again."""
    for number in range(5):
        drop(dumps, f"{number}.json", load_of(number), at=number + 1)
    assert folder.look() == []
    found = folder.look()
    assert found[1:] == [[200], [300], [400]]
    assert "has 5 new dumps, of which the latest 3 are read" in found[0]
    assert folder.look() == []
    assert len(folder.position) == 5


def test_a_folder_that_is_gone_is_a_failure_of_the_source(dumps: Path, folder: Reader) -> None:
    """It is told, and may come back."""
    dumps.rmdir()
    assert folder.look() == ["source"]
    dumps.mkdir()
    drop(dumps, "a.json", load_of(1), at=1)
    assert folder.look() == []
    assert folder.look() == [[100]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stats.jsonl"


@pytest.fixture
def lines(path: Path) -> Reader:
    path.touch()
    return Reader(GrowingFile(path, read, most_bytes=4096))


def append(path: Path, *texts: str) -> None:
    with path.open("a") as file:
        file.write("".join(texts))


def test_lines_are_read_when_they_are_whole(path: Path, lines: Reader) -> None:
    """New lines of a look are one window, with the placement that they were counted under; a torn one waits."""
    assert lines.look() == []
    torn = line_of(3)
    append(path, line_of(1), line_of(2), torn[:30])
    assert lines.look() == [[300]]
    windows = lines.taken[0].windows
    assert windows is not None
    assert windows.placement is not None
    assert windows.placement.num_gpus == GPUS
    assert windows.load.tolist() == [(load_of(1) + load_of(2)).tolist()]
    assert lines.look() == []
    append(path, torn[30:])
    assert lines.look() == [[300]]
    assert lines.look() == []


def test_a_bad_line_does_not_cost_the_others(path: Path, lines: Reader) -> None:
    """They are read, and the bad one is told by its place in the file."""
    good = line_of(1)
    append(path, good, "{torn\n", "\n", line_of(2))
    assert lines.look() == [[300]]
    assert lines.taken[0].failure is not None
    reason, words = lines.taken[0].failure
    assert reason == "unreadable"
    assert words.startswith(f"1 of 3 new lines can't be read; the first is that at byte {len(good)}: ")
    append(path, "[1]\n")
    assert lines.look() == ["unreadable"]
    assert lines.look() == []


def test_lines_of_any_one_line_format_can_be_read(path: Path, lines: Reader) -> None:
    """A JSON object with loads on each line."""
    for number in (1, 2):
        append(path, f'{{"logical_count": {load_of(number).tolist()}}}\n')
    assert lines.look() == [[300]]
    assert lines.taken[0].failure is None


def test_lines_of_several_shapes_leave_the_last(path: Path, lines: Reader) -> None:
    """An engine that was restarted with another model."""
    append(path, line_of(1), line_of(2, expert_load=[[7, 7]], p2l_map=[[0, 1]]))
    assert lines.look() == [[7]]
    assert "only the last of its new lines is taken" in str(lines.taken[0].failure)


def test_a_line_that_stands_for_all_after_it_is_remembered(path: Path, lines: Reader) -> None:
    """Once may be enough: vLLM may say the number of ranks once; that alone is no load, and no failure."""
    append(path, '{"record_type": "eplb_load_meta", "version": 1, "num_ranks": 2}\n')
    assert lines.look() == []
    for number in (1, 2):
        append(path, line_of(number, num_ranks=None))
        assert lines.look() == [[100 * number]]
        windows = lines.taken[0].windows
        assert windows is not None
        assert windows.placement is not None
        assert windows.placement.num_gpus == 2


def test_a_file_that_was_cut_is_read_from_its_beginning(path: Path, lines: Reader) -> None:
    """As logrotate's copytruncate does; also when it has grown beyond where it was by the next look."""
    append(path, line_of(1))
    assert lines.look() == [[100]]
    path.write_text(line_of(2))
    assert lines.look() == ["was cut and written anew, so it is read from its beginning", [200]]
    path.write_text(line_of(3) + line_of(4))
    assert lines.look() == ["was cut and written anew, so it is read from its beginning", [700]]
    path.write_text("")
    assert lines.look() == ["was cut and written anew, so it is read from its beginning"]
    assert lines.look() == []


def test_a_renamed_file_is_read_to_its_end_before_the_next(path: Path, lines: Reader) -> None:
    """Also while nobody writes under the old name yet; nothing is told, as nothing is lost."""
    append(path, line_of(1))
    assert lines.look() == [[100]]
    append(path, line_of(2))
    rotated = path.rename(path.with_suffix(".1"))
    assert lines.look() == ["source"]
    path.touch()
    assert lines.look() == [[200]]
    append(rotated, line_of(3))
    assert lines.look() == [[300]]
    append(rotated, line_of(4))
    append(path, line_of(5))
    assert lines.look() == [[400], [500]]
    assert lines.look() == []


def test_a_file_that_was_replaced_for_good_is_told(path: Path, lines: Reader) -> None:
    """What was in it after the last look can't be had, and the new one is read."""
    append(path, line_of(1))
    assert lines.look() == [[100]]
    other = path.with_suffix(".new")
    other.write_text(line_of(2))
    other.replace(path)
    first, second = lines.look()
    assert "gone with the file that had its name" in first
    assert second == [200]
    assert lines.look() == []


def test_a_file_is_known_by_its_beginning_too(path: Path, lines: Reader) -> None:
    """A new file may come to have the inode of the old one."""
    append(path, line_of(1))
    assert lines.look() == [[100]]
    with path.open("r+") as file:
        file.write(line_of(2) + line_of(3))
    assert path.stat().st_ino == lines.position["inode"]
    assert lines.look()[-1] == [500]


def test_a_backlog_is_passed_over_but_for_its_end(path: Path, lines: Reader) -> None:
    """Lines beyond the bound of a look are told and not read; what is in the bound begins with a whole line."""
    line = line_of(1)
    most = 4096 // len(line)
    append(path, *(line_of(2) for _ in range(20)), *(line for _ in range(most)))
    assert lines.look() == [[100 * most]]
    assert "bytes of older lines, which are passed over" in str(lines.taken[0].note)
    append(path, line_of(3))
    assert lines.look() == [[300]]


def test_a_line_without_end_is_left_out(path: Path, lines: Reader) -> None:
    """It neither fills the memory nor holds up what comes after it."""
    append(path, "x" * 5000)
    assert lines.look() == ["unreadable"]
    assert "a line of more than 4,096 bytes" in str(lines.taken[0].failure)
    append(path, "x\n", line_of(1))
    assert lines.look() == [[100]]


def test_windows_have_all_layers_and_experts(path: Path, lines: Reader) -> None:
    """As they were counted."""
    append(path, line_of(4))
    lines.look()
    windows = lines.taken[0].windows
    assert windows is not None
    assert np.array_equal(windows.load, load_of(4)[None])
    assert windows.load.shape == (1, LAYERS, EXPERTS)
