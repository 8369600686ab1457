"""Files of every kind, cut and changed at random: whatever is in them, one line of our own comes out, or an answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.format_files import Make, expert_map, json_of, npy, npz, pt, raw, recorded, vllm_line, write_statistics
from trimtab.formats import NAMES, FormatError, Source, StoredPlacement, read_loads, read_placement, what_is_in
from trimtab.formats.tensorrt_llm import placement_bytes

LOAD = np.random.default_rng(0).integers(0, 500, (3, 2, 6))
MAP = np.array([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]])
ONES = {number: np.ones((2, 6), int) for number in range(2)}
MAKERS: dict[str, Make] = {
    "npy": npy(LOAD),
    "npz": npz(load=LOAD, other=LOAD),
    "pt": pt({"logical_count": torch.from_numpy(LOAD)}),
    "old pt": lambda path: torch.save({"logical_count": LOAD.tolist()}, path, _use_new_zipfile_serialization=False),
    "passes": pt(recorded(0, ONES, MAP)),
    "json": json_of(logical_count=LOAD.tolist()),
    "list": raw(str(LOAD.tolist())),
    "csv": raw("layer_id,expert_id,count\n" + "".join(f"{layer},{layer + 1},7\n" for layer in range(9))),
    "vllm": raw("".join(vllm_line(load, MAP) for load in LOAD)),
    "placement": json_of(physical_to_logical_map=MAP.tolist()),
    "expert map": json_of(**expert_map(MAP, 2)),
    "yaml": raw(placement_bytes(StoredPlacement(MAP, np.array([3, 4])), ".yaml")),
}
TOKENS = (
    b"-1",
    b"1e400",
    b"NaN",
    b"null",
    b"true",
    b"1.5",
    b"9" * 20,
    b"9" * 5000,
    b"[",
    b"]]",
    b"{",
    b'"',
    b",",
    b"\n",
)
BINARY = (
    b"\x00",
    b"\xff" * 8,
    (1 << 40).to_bytes(8, "little"),
    b"\x93NUMPY",
    b"PK\x03\x04",
    b"\x80\x04",
    b"*a",
    b"!!python",
)


def changed(rng: random.Random, content: bytes) -> bytes:
    """Cut, or with a few bytes left out, put in, repeated or replaced."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(content) + 1)
        some = content[at : at + rng.choice([1, 4, 50])]
        content = rng.choice(
            [
                content[:at],
                content[:at] + content[at + len(some) :],
                content[:at] + some + content[at:],
                content[:at] + rng.choice(TOKENS) + content[at:],
                content[:at] + rng.choice(BINARY) + content[at + 8 :],
                content[:at] + rng.randbytes(1) + content[at + 1 :],
            ]
        )
    return content


def said(call: Callable[[], Any]) -> str:
    """What is wrong, or nothing where it answers; other errors go through."""
    try:
        call()
    except FormatError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", MAKERS)
def test_changed_files(tmp_path: Path, kind: str) -> None:
    """Read as what they are, or as any format by name."""
    rng, path = random.Random(kind), tmp_path / "a"  # noqa: S311  # the same changes in every run
    MAKERS[kind](path)
    good = path.read_bytes()
    for _ in range(60):
        path.write_bytes(changed(rng, good))
        name = rng.choice([None, None, *NAMES])
        found = [
            said(partial(read_loads, path, format_name=name, at_most=2)),
            said(partial(read_placement, path, format_name=name)),
            said(lambda name=name: what_is_in(Source(path), name)),  # type: ignore[misc]  # a lambda
        ]
        assert not [message for message in found if "\n" in message or len(message) > 700]


@pytest.mark.parametrize("part", ["meta_info.json", "rank0.safetensors"])
def test_a_folder_with_a_changed_file(tmp_path: Path, part: str) -> None:
    """TensorRT-LLM's statistics, one of whose files is broken."""
    rng = random.Random(part)  # noqa: S311  # the same changes in every run
    write_statistics(tmp_path, LOAD[None], [3, 4])
    good = (tmp_path / part).read_bytes()
    for _ in range(100):
        (tmp_path / part).write_bytes(changed(rng, good))
        found = [said(partial(read_loads, path)) for path in (tmp_path, tmp_path / part)]
        assert not [message for message in found if "\n" in message or len(message) > 700]
