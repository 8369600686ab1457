"""The command `trimtab pack` and its options; what it does stands in `pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trimtab.cli import pack
from trimtab.cli.failures import EXIT_CODES, told
from trimtab.cli.files import Reading, check_output, told_files
from trimtab.cli.options import (
    FILE,
    SLOTS,
    effort_options,
    json_option,
    reading_options,
    target_options,
    timeout_option,
)
from trimtab.cli.printing import make_console, print_json, show_written, working
from trimtab.cli.tables import show_pack
from trimtab.client import Client
from trimtab.formats import STANDARD

_HELP = """Pack the experts of load files evenly onto GPUs (or nodes).

LOADS are files as the engines write them, or arrays [layers, experts] (`trimtab convert --help` lists all); the windows
in them are summed. `-` is standard input, and with -o standard output.

\b
Examples:
  trimtab pack loads.json --packs 32
  trimtab pack loads.json --packs 32 --replicas 288 --target local
  trimtab pack loads.json --packs 32 --restarts 64 --target-gap 0
  trimtab pack loads.npz --packs 32 --json | jq .balancedness_after
  trimtab generate -o - | trimtab pack - --packs 32 --target local
  trimtab pack loads.pt --packs 8 --target placement:50051 --ca ca.pem --token-file token -o packing.npz
"""


@click.command("pack", help=_HELP, epilog=EXIT_CODES)
@click.argument("files", metavar="LOADS...", type=FILE, nargs=-1, required=True)
@click.option("--packs", type=int, required=True, help="Packs per layer; divides the number of items.")
@click.option("--replicas", type=SLOTS, help="Replicate the hottest experts to so many slots.")
@reading_options(1, offered=False)
@target_options
@effort_options
@timeout_option
@json_option
@click.option(
    "-o",
    "--output",
    metavar="OUT.npz",
    type=FILE,
    help="Write pack_index, rank_in_pack, weight and, with --replicas, physical_to_logical.",
)
def pack_command(
    *,
    files: tuple[Path, ...],
    packs: int,
    replicas: int | None,
    reading: Reading,
    target: str,
    secure: dict[str, Any],
    as_json: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Read, pack, write, show."""
    if output not in (None, STANDARD):
        check_output("-o", output, ".npz", files)
    with told(target):
        with working("reading loads", quiet=as_json):
            items = pack.read_items(files, replicas, reading)
        with Client(target, **secure) as client, working("packing", quiet=as_json):
            report = pack.run_pack(client, items, packs, **options)
        if output is not None:
            pack.save_packing(report, output)
    if as_json:
        print_json({"files": [str(file) for file in files], **pack.as_json(report)}, output)
        return
    console = make_console(output)
    show_pack(console, told_files(files), report)
    show_written(console, output)
