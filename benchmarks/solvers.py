"""The solvers side by side: time and gap over shapes, restarts and batches; figures, gap against time, growth.

All ratios are against the plain restart loop in torch (benchmarks/baselines.py), measured in turn with what it is
compared to. Answers are compared byte for byte before anything is timed.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.baselines import TorchLoop
from benchmarks.growth import print_growth
from benchmarks.measuring import machine
from benchmarks.solver_cases import COMMON, SHAPES, Bench, Shape, progress
from benchmarks.solver_figures import print_curve, print_figures
from benchmarks.solver_table import print_shapes
from trimtab_server.devices import DeviceError, make_packer
from trimtab_server.solvers.cpu_packer import CpuPacker
from trimtab_server.solvers.torch_packer import TorchPacker

PARTS = ("table", "figures", "curve", "growth")

EXAMPLES = """examples:
  python -m benchmarks.solvers                                  all, some minutes
  python -m benchmarks.solvers --quick                          the smallest useful run, under a minute
  python -m benchmarks.solvers --shapes 58x288x32,48x144x8 --parts table
  python -m benchmarks.solvers --parts figures,growth --rounds 31
  python -m benchmarks.solvers --device cuda                    on a GPU: cuda and torch there, and cpu beside them
"""


def _shapes(text: str) -> list[Shape]:
    try:
        return [Shape.parse(part) for part in text.split(",")]
    except ValueError:
        message = f"must be layers x items x packs such as 58x288x32, items a multiple of packs, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _parts(text: str) -> list[str]:
    parts = text.split(",")
    if not set(parts) <= set(PARTS):
        raise argparse.ArgumentTypeError(f"must be some of {', '.join(PARTS)}, got {text!r}")
    return parts


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.solvers",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--shapes", type=_shapes, help=f"default: {','.join(map(str, SHAPES))}")
    parser.add_argument("--parts", type=_parts, default=PARTS, help=f"default: {','.join(PARTS)}")
    parser.add_argument("--rounds", type=_rounds, help="samples of a cell that is not slow (default: 15, quick: 5)")
    parser.add_argument("--quick", action="store_true", help=f"only {COMMON}, fewer cells and fewer samples")
    return parser.parse_args()


def _bench(arguments: argparse.Namespace) -> Bench:
    try:
        packer = make_packer(arguments.device)
    except DeviceError as error:
        raise SystemExit(str(error)) from None
    device = packer.device
    return Bench(
        device=device,
        loop=TorchLoop(device),
        torch=TorchPacker(device),
        cpu=packer if isinstance(packer, CpuPacker) else CpuPacker(),
        cuda=packer if packer.name == "cuda" else None,
        rounds=arguments.rounds or (5 if arguments.quick else 15),
        quick=arguments.quick,
    )


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    bench = _bench(arguments)
    shapes: list[Shape] = arguments.shapes or ([COMMON] if arguments.quick else list(SHAPES))
    on = f"; {torch.cuda.get_device_name(bench.device)}" if bench.device != "cpu" else ""
    print(f"{bench.fastest.name} on {bench.fastest.device}; {machine()}, torch {torch.__version__}{on}", flush=True)
    if bench.cuda:
        from benchmarks import solvers_gpu  # noqa: PLC0415  # needs Triton

        solvers_gpu.check_answers(bench, shapes)
        solvers_gpu.print_kernels(bench, shapes)
    elif bench.device != "cpu":
        progress("no Triton here: pip install 'trimtab[cuda]' for the cuda solver")
    if "figures" in arguments.parts:
        print_figures(bench)
    if "curve" in arguments.parts:
        print_curve(bench)
    if "table" in arguments.parts:
        print_shapes(bench, shapes)
    if "growth" in arguments.parts:
        print_growth(bench)


if __name__ == "__main__":
    main()
