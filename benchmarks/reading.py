"""Reading: the time and memory that a recording of 10,000 windows takes, in every format that gets so large.

Files are made in a temporary folder, one after the other, and are in the system's cache when they are read, each time
by a fresh process: all windows, and summed to 32. Seconds are those of the call, with whatever it has to import;
memory is the most that the process ever held.

Run: python -m benchmarks.reading [--windows N] [--ranks N] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import machine, print_table, verdict
from trimtab.formats import read_loads
from trimtab.synthetic import generate_loads

NUM_LAYERS, NUM_EXPERTS, NUM_REPLICAS, NUM_GPUS = 58, 256, 288, 32
FIRST_LAYER = 3
DIFFERENT = 64
"""Windows that differ; more repeat them."""
SUMMED_TO = 32
MOST_SECONDS, MOST_MB = 10, 1000

Counts = npt.NDArray[np.int32]
"""[num_windows, num_layers, num_experts]"""


def windows(number: int) -> Counts:
    """Loads of so many windows."""
    load = generate_loads(NUM_LAYERS, NUM_EXPERTS, DIFFERENT, 0.05).astype(np.int32)
    return load[np.arange(number) % DIFFERENT]


def write_npy(folder: Path, number: int, _: int) -> Path:
    """One array."""
    np.save(folder / "loads.npy", windows(number))
    return folder / "loads.npy"


def write_npz(folder: Path, number: int, _: int) -> Path:
    """One array, compressed."""
    np.savez_compressed(folder / "loads.npz", logical_count=windows(number))
    return folder / "loads.npz"


def write_pt(folder: Path, number: int, _: int) -> Path:
    """What SGLang's recorder dumps."""
    import torch  # noqa: PLC0415  # slow to load

    content = {"rank": 0, "logical_count": torch.from_numpy(windows(number))}
    torch.save(content, folder / "expert_distribution_recorder.pt")
    return folder / "expert_distribution_recorder.pt"


def write_vllm(folder: Path, number: int, _: int) -> Path:
    """Load statistics of vLLM, the map in each line; the first replica of an expert has all of its tokens."""
    slots = np.tile(np.arange(NUM_REPLICAS) % NUM_EXPERTS, (NUM_LAYERS, 1))
    texts = []
    for load in windows(min(number, DIFFERENT)):
        tokens = np.zeros(slots.shape, int)
        tokens[:, :NUM_EXPERTS] = load
        known = {"record_type": "eplb_load_stats", "version": 1, "num_ranks": NUM_GPUS}
        line = json.dumps(known | {"expert_load": tokens.tolist(), "p2l_map": slots.tolist()})
        texts.append(line.replace('"num_ranks"', '"step": {}, "num_ranks"'))
    with (folder / "stats.jsonl").open("w") as file:
        for step in range(number):
            file.write(texts[step % DIFFERENT].replace("{}", str(step * 100), 1) + "\n")
    return folder / "stats.jsonl"


def write_tensorrt_llm(folder: Path, number: int, num_ranks: int) -> Path:
    """TensorRT-LLM's statistics; the first rank has all tokens, others none."""
    import safetensors.numpy  # noqa: PLC0415  # for this alone

    (folder / "meta_info.json").write_text(json.dumps({"num_experts": NUM_EXPERTS, "num_experts_per_token": 8}))
    load = windows(min(number, DIFFERENT)).astype(np.int64)
    for rank in range(num_ranks):
        tensors = {
            f"{50 + iteration}_{FIRST_LAYER + layer}": load[iteration % DIFFERENT, layer] * (rank == 0)
            for iteration in range(number)
            for layer in range(NUM_LAYERS)
        }
        safetensors.numpy.save_file(tensors, folder / f"rank{rank}.safetensors")
    return folder


WRITERS: dict[str, Callable[[Path, int, int], Path]] = {
    "npy": write_npy,
    "npz": write_npz,
    "pt": write_pt,
    "vllm": write_vllm,
    "tensorrt-llm": write_tensorrt_llm,
}


def read(path: Path, at_most: int | None) -> None:
    """What a fresh process does; prints what it took."""
    begin, used = time.perf_counter(), time.process_time()
    found = read_loads(path, at_most=at_most)
    took = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - used}
    tokens = int(found.load.sum(dtype=np.float64))
    print(json.dumps({**took, "mb": most_held(), "num_read": found.num_read, "tokens": tokens}))


def most_held() -> float:
    """MB; getrusage would tell of the process that this one was started by, too."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024 / 1e6


def measure(path: Path, at_most: int | None) -> dict[str, Any]:
    """In a process of its own."""
    command = [sys.executable, "-m", "benchmarks.reading", "--read", str(path)]
    command += [] if at_most is None else ["--at-most", str(at_most)]
    took: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return took


def size_of(path: Path) -> int:
    """Bytes."""
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))


def main() -> None:
    """Make, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=10_000, help="default: 10000")
    parser.add_argument("--ranks", type=int, default=1, help="files of TensorRT-LLM (default: 1)")
    parser.add_argument("--only", nargs="+", choices=WRITERS, default=list(WRITERS), help="by default all")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--at-most", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        read(arguments.read, arguments.at_most)
        return
    print(machine(), flush=True)
    expected = int(windows(arguments.windows).sum(dtype=np.float64))
    rows, verdicts = [], []
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{name} ...", file=sys.stderr, flush=True)
            path = WRITERS[name](Path(folder), arguments.windows, arguments.ranks)
            for at_most in (None, SUMMED_TO):
                took = measure(path, at_most)
                assert (took["num_read"], took["tokens"]) == (arguments.windows, expected)  # noqa: S101  # else it misread
                kept = "all" if at_most is None else f"summed to {at_most}"
                figures = (f"{took[key]:.1f}" for key in ("seconds", "cpu_seconds"))
                rows.append((name, f"{size_of(path) / 1e6:,.0f}", kept, *figures, f"{took['mb']:.0f}"))
                verdicts += [
                    verdict(f"{name}, {kept}: s", took["seconds"], MOST_SECONDS, at_most=True),
                    verdict(f"{name}, {kept}: MB", took["mb"], MOST_MB, at_most=True),
                ]
    header = ("format", "MB on disk", "kept", "s", "s of CPU", "most MB")
    print_table(f"{arguments.windows:,} windows of {NUM_LAYERS} x {NUM_EXPERTS}", header, rows)
    print_table("What was wanted", ("what", "measured", "wanted", "met"), verdicts)


if __name__ == "__main__":
    main()
