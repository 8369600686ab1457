"""The command `trimtab convert`: loads and placements of one engine, written as another reads them."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.failures import EXIT_CODES, InputFailure, told
from trimtab.cli.files import Reading, check_place, span
from trimtab.cli.options import FILE, SLOTS, json_option, output_format_option, reading_options
from trimtab.cli.printing import print_json, told_output, working
from trimtab.formats import (
    FORMATS,
    STANDARD,
    LoadWindows,
    Source,
    StoredPlacement,
    what_is_in,
    write_loads,
    write_placement,
)

_KINDS = "\n".join(f"  {name}: {module.READS}" for name, module in FORMATS.items())
_HELP = f"""Read loads or a placement, and write them as another engine reads them.

What IN holds is told by what is in it; the ending of OUT, or --output-format, says how it is written: .json and .pt
for SGLang, .yaml for TensorRT-LLM, expert_map.json for vllm-ascend, .npy and .npz as arrays. Loads are written as
.json, .pt, .npy or .npz. `-` is standard input, or output.

\b
Formats that are read:
{_KINDS}

\b
Examples:
  trimtab convert expert_distribution_recorder_1.pt loads.npz
  trimtab convert stats.jsonl loads.npz --max-windows 32
  trimtab convert placement.json moe_load_balancer.yaml --layers 3-60
  trimtab convert placement.json expert_map.json --layers 3-60 --gpus 32
  trimtab convert expert_map.json placement.json --first-layer 3
  trimtab convert stats.jsonl placement.json --placement
"""


@click.command("convert", help=_HELP, epilog=EXIT_CODES)
@click.argument("source", metavar="IN", type=FILE)
@click.argument("output", metavar="OUT", type=FILE)
@reading_options(None)
@output_format_option
@click.option("--gpus", "num_gpus", type=SLOTS, help="GPUs of a placement, where IN does not tell.")
@click.option("--placement", "is_placement", is_flag=True, help="Take the placement of IN, where it has loads too.")
@json_option
def convert_command(
    *,
    source: Path,
    output: Path,
    reading: Reading,
    output_format: str | None,
    num_gpus: int | None,
    is_placement: bool,
    as_json: bool,
) -> None:
    """Read, write, tell."""
    if output != STANDARD:
        check_place("OUT", output, [source])
    with told(str(output)), working("converting", quiet=as_json):
        opened = Source(source)
        if not is_placement and "loads" in what_is_in(opened, reading.format_name):
            if output_format is not None:
                raise InputFailure("--output-format is for placements, IN has loads; add --placement for its placement")
            loads = reading.loads([opened])
            write_loads(output, loads.load)
            found = _loads_as_json(loads)
        else:
            placement = reading.placement(opened, num_gpus)
            write_placement(output, placement, format_name=output_format)
            found = _placement_as_json(placement)
    _tell(source, output, found, as_json=as_json)


def _loads_as_json(loads: LoadWindows) -> dict[str, int | str | None]:
    num_windows, num_layers, num_experts = loads.load.shape
    return {
        "holds": "loads",
        "num_windows_read": loads.num_read,
        "num_windows": num_windows,
        "num_layers": num_layers,
        "layers": span(loads.layers),
        "num_experts": num_experts,
    }


def _placement_as_json(placement: StoredPlacement) -> dict[str, int | str | None]:
    num_layers, num_replicas = placement.physical_to_logical.shape
    return {
        "holds": "placement",
        "num_layers": num_layers,
        "layers": span(placement.layers),
        "num_experts": placement.num_experts,
        "num_replicas": num_replicas,
        "num_gpus": placement.num_gpus,
    }


def _tell(source: Path, output: Path, found: dict[str, int | str | None], *, as_json: bool) -> None:
    """On standard error where standard output has the file."""
    if as_json:
        print_json({"in": str(source), "out": str(output), **found}, output)
        return
    layers = f"{found['num_layers']} layers ({found['layers']})"
    if found["holds"] == "loads":
        what = f"{found['num_windows']} windows of {layers}, {found['num_experts']} experts"
        read = found["num_windows_read"]
        what += f"; {read} windows were read, and summed" if read != found["num_windows"] else ""
    else:
        gpus = f", {found['num_gpus']} GPUs" if found["num_gpus"] else ""
        what = f"a placement of {layers}, {found['num_experts']} experts in {found['num_replicas']} slots{gpus}"
    click.echo(f"{told_output(output)}: {what}", err=output == STANDARD)
