"""The journal of `trimtab watch`: what is in it is there after a crash, and nothing else is believed."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.watch_parts import placement_of, windows_of
from trimtab.formats import FileError, LoadWindows
from trimtab.watch.history import History
from trimtab.watch.journal import Journal
from trimtab.watch.packed import pack_placement, pack_windows
from trimtab.watch.state import Known, State, pack_known

NOW = 1234.5


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def opened() -> Iterator[list[Journal]]:
    """Journals that are closed when the test is over."""
    journals: list[Journal] = []
    yield journals
    for journal in journals:
        journal.close()


def open_journal(path: Path, history: int = 3, **more: Any) -> Journal:
    return Journal(path, State(History(history)), lambda: NOW, **more)


def read_record(*numbers: int, **position: Any) -> dict[str, Any]:
    windows = windows_of(*numbers)
    return {"name": "a", "position": position, "windows": pack_windows(windows), "told": None, "failure": None}


def fill(journal: Journal) -> None:
    """One record of each kind."""
    journal.begin("a source")
    journal.append("read", **read_record(1, 2, a=[1, 2], b=[3, 4]))
    journal.append("adopted", known=pack_known(Known(placement_of(0), None)))
    journal.append("intended", known=pack_known(Known(placement_of(1), "one", 5)))
    journal.append("written")
    journal.append("read", **read_record(3, 4, a=None, c=[5, 6]))
    journal.append("decided", reason="cooldown", words="", is_due=True)
    journal.append("read", **{**read_record(5), "told": pack_placement(placement_of(3))})
    journal.append("intended", known=pack_known(Known(placement_of(2), "two", None)))


def plain(state: State) -> dict[str, Any]:
    """All of a state, to be compared."""
    record: dict[str, Any] = json.loads(json.dumps(state.record()))
    return record


def test_a_new_start_knows_all_that_was_known(path: Path) -> None:
    """Where reading has come to, the windows that are kept, and all three placements."""
    first = open_journal(path)
    assert first.is_new
    fill(first)
    first.close()
    again = open_journal(path)
    again.close()
    state = again.state
    assert plain(state) == plain(first.state)
    assert not again.is_new
    assert state.position == {"b": [3, 4], "c": [5, 6]}
    windows = state.history.windows
    assert windows is not None
    assert np.array_equal(windows.load, windows_of(3, 4, 5).load)
    assert (state.is_due, state.rebalanced_at) == (True, NOW)
    assert state.known is not None
    assert state.intended is not None
    assert state.in_force is not None
    for placement, shift in ((state.known.placement, 1), (state.intended.placement, 2), (state.in_force, 3)):
        assert np.array_equal(placement.physical_to_logical, placement_of(shift).physical_to_logical)
    assert (state.known.digest, state.known.moves, state.intended.moves) == ("one", 5, None)


@pytest.mark.parametrize("left", [1, 40, 2_000], ids=str)
def test_a_torn_last_line_is_cut_off(path: Path, left: int) -> None:
    """The record that it was to be is as if it had not come about, and others can follow."""
    journal = open_journal(path)
    fill(journal)
    before = plain(journal.state)
    size = path.stat().st_size
    journal.append("read", **read_record(*range(6, 9), d=[7, 8]))
    journal.close()
    os.truncate(path, min(size + left, path.stat().st_size - 1))
    torn = open_journal(path)
    assert torn.was_torn
    assert plain(torn.state) == before
    assert path.stat().st_size == size
    torn.append("written")
    torn.close()
    whole = open_journal(path)
    whole.close()
    assert not whole.was_torn
    assert plain(whole.state) == plain(torn.state) != before


def test_a_line_of_zeros_is_cut_off_too(path: Path) -> None:
    """As file systems leave one that they were about to fill when the power went."""
    journal = open_journal(path)
    fill(journal)
    journal.close()
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\0" * 100 + b"\n")
    torn = open_journal(path)
    torn.close()
    assert torn.was_torn
    assert path.stat().st_size == size


BROKEN = [
    (b'{"event": "re', b"line 3"),
    (b'{"event": "sold"}', b"'sold'"),
    (b"[1]", b"line 3"),
    (b'{"event": "read", "windows": null, "told": {"slots": 3}, "position": {}}', b"line 3"),
]


@pytest.mark.parametrize(("line", "words"), BROKEN, ids=[line.decode()[:22] for line, _ in BROKEN])
def test_a_broken_line_before_the_last_is_refused(path: Path, line: bytes, words: bytes) -> None:
    """No crash makes it, so nothing after it can be relied on; the file stays as it is."""
    journal = open_journal(path)
    fill(journal)
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line + b"\n", *lines[3:]]))
    before = path.read_bytes()
    with pytest.raises(FileError, match=words.decode()) as caught:
        open_journal(path)
    assert "move it away, and name the placement in force with --previous" in str(caught.value)
    assert path.read_bytes() == before


def test_a_journal_of_a_newer_version_is_refused(path: Path) -> None:
    """Even where its one line is all there is: it is whole."""
    path.write_text('{"at": 1, "event": "begun", "version": 2, "source": "a"}\n')
    with pytest.raises(FileError, match="it is of version 2, this trimtab reads version 1"):
        open_journal(path)
    assert path.stat().st_size


def test_one_watcher_at_a_time(path: Path) -> None:
    """Another one is refused, in this process or in any other, until the first has ended, however it ends."""
    journal = open_journal(path)
    for _ in range(2):
        with pytest.raises(FileError, match="another watcher is at work on it"):
            open_journal(path)
        journal.append("begun", version=1, source="a")
    journal.close()
    code = (
        "import sys, pathlib; from tests.test_watch_journal import open_journal as o; j = o(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", f"{code}; print('has it', flush=True); sys.stdin.read()", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "has it\n"
        with pytest.raises(FileError, match="another watcher is at work on it"):
            open_journal(path)
        other.send_signal(signal.SIGKILL)
        other.wait()
    open_journal(path).close()


def test_it_does_not_grow_without_bound(path: Path, opened: list[Journal]) -> None:
    """However much is read, it stays below a multiple of what it comes to, and is compacted under its lock."""
    journal = open_journal(path, least_bytes=4096)
    opened.append(journal)
    fill(journal)
    sizes = []
    for number in range(100):
        journal.append("read", **read_record(number, b=[number, number]))
        sizes.append(path.stat().st_size)
        with pytest.raises(FileError, match="another watcher"):
            open_journal(path)
    state = len(json.dumps(journal.state.record()))
    assert max(sizes) < 9 * state + 4096
    assert sum(later < before for before, later in pairwise(sizes)) > 1
    before = plain(journal.state)
    journal.close()
    again = open_journal(path)
    again.close()
    assert plain(again.state) == before
    assert [each.name for each in path.parent.iterdir()] == ["journal"]


def test_it_does_not_grow_by_starts_either(path: Path) -> None:
    """A watcher that is killed again and again compacts what those before it left."""
    sizes = []
    for number in range(60):
        journal = open_journal(path, least_bytes=1)
        journal.begin("a source")
        journal.append("read", **read_record(number, b=[number, number]))
        sizes.append(path.stat().st_size)
        journal.close()
    assert max(sizes) < 10 * len(json.dumps(journal.state.record()))


def test_what_was_read_of_another_source_is_forgotten(path: Path) -> None:
    """Its windows are of other traffic; the placement stays in force."""
    journal = open_journal(path)
    fill(journal)
    journal.begin("a source")
    assert len(journal.state.history) == 3
    journal.begin("another source")
    journal.close()
    assert (journal.state.position, len(journal.state.history), journal.state.is_due) == ({}, 0, False)
    assert journal.state.known is not None


def test_a_shorter_history_keeps_the_latest(path: Path) -> None:
    """What is asked for at a start counts."""
    journal = open_journal(path)
    fill(journal)
    journal.close()
    shorter = open_journal(path, history=1)
    shorter.close()
    windows = shorter.state.history.windows
    assert windows is not None
    assert np.array_equal(windows.load, windows_of(5).load)


def test_a_full_disk_is_told(path: Path, opened: list[Journal], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done that the journal does not have."""
    journal = open_journal(path)
    opened.append(journal)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left on device"):
        journal.begin("a source")
    assert journal.state.source is None


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """In one line."""
    with pytest.raises(FileError, match="journal: can't be written"):
        open_journal(tmp_path / "no" / "journal")


def test_loads_that_are_no_whole_numbers_are_kept_as_they_are(path: Path) -> None:
    """A window's type is not lost on the disk."""
    load = np.array([[[0.5, 1.25]]], np.float32)
    windows = LoadWindows(load, np.array([7]), 1)
    journal = open_journal(path)
    journal.append("read", name="a", position={}, windows=pack_windows(windows), told=None, failure=None)
    journal.close()
    again = open_journal(path)
    again.close()
    kept = again.state.history.windows
    assert kept is not None
    assert (kept.load.dtype, kept.load.tolist(), kept.layers.tolist()) == (load.dtype, load.tolist(), [7])
