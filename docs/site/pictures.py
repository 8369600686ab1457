"""The pictures of the pages: what is packed in them is packed by the solver, figures are those of docs/benchmarks.md.

Run: python -m docs.site.pictures
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from docs.site.svg import WIDTH, Picture

import trimtab
from trimtab.replication import replicate_experts, slot_weight

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "pictures"
_COLOURS = "abcde"
_LEFT, _RIGHT = 60.0, WIDTH - 40.0
_LOAD = [[420, 180, 150, 130, 110, 100, 90, 85, 75, 70, 60, 55, 45, 40, 30, 20]]
"""[1, 16]: one expert is as busy as five others."""


def packing() -> Picture:
    """Sixteen experts on four GPUs: in order, packed, and packed with replicas."""
    load = np.array(_LOAD, float)
    with trimtab.Client("local") as client:
        packed = client.pack(load, 4).pack_index[0]
        physical, count = replicate_experts(load, 20)
        weight = slot_weight(load, physical, count)
        replicated = client.pack(weight, 4).pack_index[0]
    picture = Picture(300, "The load of four GPUs with experts in order, packed, and packed with replicas")
    experts = np.arange(16)
    for at, (title, gpu, expert, each) in enumerate(
        (
            ("in order", experts // 4, experts, load[0]),
            ("packed: equal counts", packed, experts, load[0]),
            ("with four more replicas", replicated, physical[0], weight[0]),
        )
    ):
        _gpus(picture, 25 + at * 232, title, gpu=gpu, expert=expert, load=each)
    return picture


def _gpus(
    picture: Picture,
    left: float,
    title: str,
    *,
    gpu: npt.NDArray[Any],
    expert: npt.NDArray[Any],
    load: npt.NDArray[np.float64],
) -> None:
    loads = np.bincount(gpu, load, minlength=4)
    mean = loads.mean()
    picture.text(left, 32, title, "strong")
    picture.text(left, 52, f"balancedness {mean / loads.max():.3f}", "small")
    foot, scale = 265.0, 190 / 880
    for number in range(4):
        bottom = foot
        for slot in sorted(np.flatnonzero(gpu == number), key=lambda slot: -load[slot]):
            height = load[slot] * scale
            bottom -= height
            words = f"expert {expert[slot]}: load {load[slot]:g}"
            picture.box(left + number * 50, bottom, 42, height, kind=f"part {_COLOURS[expert[slot] % 5]}", words=words)
        picture.text(left + number * 50 + 21, foot + 18, f"GPU {number}", "small", "middle")
    picture.line([(left - 4, foot - mean * scale), (left + 196, foot - mean * scale)], "dashed")


def refinement() -> Picture:
    """How far from the bound each way of packing ends, on a scale of powers of ten."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    rows = [
        ("greedy, heaviest first", _figure(text, r"torch \| 1 \| 1 \|.*\| (\S+) \|")),
        ("the best of 8 restarts", _figure(text, r"torch \| 8 \| 1 \|.*\| (\S+) \|")),
        ("the defaults: refined, until 1e-4", _figure(text, r"all defaults \|.*\| (\S+) \| \S+ \|")),
        ("8 restarts, all refined to the end", _figure(text, r"8 restarts, target_gap 0 \|.*\| (\S+) \| \S+ \|")),
    ]
    picture = Picture(90 + 40 * len(rows), "The gap to the lower bound that ways of packing leave")
    left, least = 270.0, -5.0
    wide = (_RIGHT - left - 50) / 3
    for power in range(4):
        x = left + power * wide
        picture.line([(x, 30), (x, 50 + 40 * len(rows))], "dashed")
        picture.text(x, 72 + 40 * len(rows), f"1e{int(least) + power}", "small", "middle")
    for at, (name, gap) in enumerate(rows):
        y = 38.0 + 40 * at
        picture.text(left - 14, y + 17, name, "", "end")
        length = (math.log10(gap) - least) * wide
        picture.box(left, y, round(length, 1), 24, kind="a", words=f"{name}: {gap:.1e}")
        picture.text(left + length + 8, y + 17, f"{gap:.1e}", "small")
    return picture


def budget() -> Picture:
    """Balancedness against moves, of the search and of placing anew."""
    text = (ROOT / "docs" / "benchmarks.md").read_text()
    section = text.partition("### From decode_in1000out1000 to decode_in1800out100")[2].partition("###")[0]
    row = re.compile(r"^\| known load \| \S+ \| (0\.\d+) \| ([\d,]+) \|.*?\| (0\.\d+) \| ([\d,]+) \|", re.MULTILINE)
    found = [
        (_number(moves), float(after), _number(anew), float(fresh))
        for after, moves, fresh, anew in row.findall(section)
    ]
    picture = Picture(330, "Balancedness against moves: a budget of few moves beside placing anew")
    top, foot, low, most = 60.0, 270.0, 0.96, 17_000

    def place(moves: float, balancedness: float) -> tuple[float, float]:
        return _LEFT + (_RIGHT - _LEFT) * moves / most, foot - (foot - top) * (balancedness - low) / (1 - low)

    for balancedness in (0.96, 0.97, 0.98, 0.99, 1.0):
        x, y = place(0, balancedness)
        picture.line([(x, y), (_RIGHT, y)], "dashed")
        picture.text(x - 8, y + 4, f"{balancedness:.2f}", "small", "end")
    for moves in range(0, most, 4000):
        picture.text(place(moves, low)[0], foot + 20, f"{moves:,}", "small", "middle")
    picture.text(_RIGHT, foot + 42, "copies of experts moved", "small", "end")
    picture.text(_LEFT, 36, "balancedness after the traffic has changed", "strong")
    points = [place(moves, after) for moves, after, _, _ in found]
    picture.line(points, "curve")
    for (x, y), (moves, after, _, _) in zip(points, found, strict=True):
        picture.dot(x, y)
        words = f"{after:.3f} with {moves:,}" if (moves, after) == found[0][:2] else f"{moves:,}"
        picture.text(x + 10, y + 17, words, "small")
    x, y = place(found[0][2], found[0][3])
    picture.dot(x, y, "other")
    picture.text(x - 12, y + 24, f"placed anew: {found[0][3]:.3f} with {found[0][2]:,}", "small", "end")
    return picture


def _figure(text: str, row: str) -> float:
    found = re.search(rf"^\| {row}", text, re.MULTILINE)
    if found is None:
        raise LookupError(f"docs/benchmarks.md has no row {row}")
    return float(found[1])


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def batching() -> Picture:
    """Calls that come while the device works are its next batch."""
    picture = Picture(250, "Calls arrive while the device works; what has piled up is the next batch")
    batches = ((70.0, 130.0, 1), (200.0, 170.0, 3), (370.0, 220.0, 5), (590.0, 90.0, 1))
    picture.text(30, 40, "calls arrive", "strong")
    arrivals = ((70,), (95, 130, 180), (215, 250, 290, 320, 355), (480,))
    for at, (times, (start, length, size)) in enumerate(zip(arrivals, batches, strict=True)):
        colour = _COLOURS[at]
        for x in times:
            picture.box(x - 5, 62, 10, 18, kind=colour, words="a call")
            if x < start:
                picture.line([(x, 84), (x, 96), (start + 6, 118), (start + 6, 156)], "dashed")
        picture.box(start, 160, length - 6, 44, kind=f"part {colour}")
        picture.text(start + length / 2 - 3, 187, f"batch of {size}" if size > 1 else "1", "inside", "middle")
    picture.arrow([(40, 222), (690, 222)])
    picture.text(30, 240, "the device solves", "strong")
    picture.text(690, 240, "time", "small", "end")
    return picture


def walk() -> Picture:
    """The rooms that a request goes through, and what stands beside them."""
    picture = Picture(330, "A request goes through calls, contract, batching and solvers, and back the same way")
    rooms = (
        ("calls", ("who calls, receive,", "count, time, log")),
        ("contract", ("bytes to checked", "arrays, and back")),
        ("batching", ("the owner task: fair", "order, batches")),
        ("solvers", ("one device thread:", "arrays in, arrays out")),
    )
    wide, gap, top = 138.0, 32.0, 70.0
    for at, (name, words) in enumerate(rooms):
        x = 30 + at * (wide + gap)
        picture.box(x, top, wide, 84, kind="box")
        picture.text(x + wide / 2, top + 26, name, "strong", "middle")
        for line, part in enumerate(words):
            picture.text(x + wide / 2, top + 50 + 18 * line, part, "small", "middle")
        if at:
            picture.arrow([(x - gap + 3, top + 42), (x - 3, top + 42)])
    picture.text(30, 40, "request and answer: bytes over gRPC, or the same in your own process (local)", "small")
    beside = (
        ("access", "tokens, certificates", 0),
        ("checks", "limits of a request", 1),
        ("admission", "who may wait", 2),
        ("cpu, cuda, torch", "the same bytes", 3),
    )
    for name, said, at in beside:
        x = 30 + at * (wide + gap)
        picture.box(x, 196, wide, 52, kind="quiet")
        picture.text(x + wide / 2, 218, name, "", "middle")
        picture.text(x + wide / 2, 236, said, "small", "middle")
        picture.line([(x + wide / 2, 154), (x + wide / 2, 196)], "dashed")
    picture.box(30, 270, WIDTH - 60 - 4, 36, kind="quiet")
    told = "metrics, log, traces, the status page: told of everything, and never waited for"
    picture.text(WIDTH / 2, 293, told, "small", "middle")
    return picture


PICTURES: Mapping[str, Callable[[], Picture]] = {
    each.__name__: each for each in (packing, refinement, budget, batching, walk)
}


def main() -> None:
    """Draw all of them again."""
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw().svg())
        print(f"docs/pictures/{name}.svg")


if __name__ == "__main__":
    main()
