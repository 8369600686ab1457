"""The report of a rebalance: a page of its own, and its maps alone as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trimtab.answers import Placement
from trimtab.cli.cost_model import CostModel
from trimtab.cli.judging import Slots
from trimtab.cli.report.drawing import as_png
from trimtab.cli.report.gpu_loads import Gpus
from trimtab.cli.report.heatmaps import Scale, draw_levels
from trimtab.cli.report.page import make_page, make_section, readable
from trimtab.cli.report.rebalance_panels import make_balance, make_hottest, make_maps, titles
from trimtab.cli.report.rebalance_words import make_figures, make_headline, make_rules
from trimtab.cli.report.rebalanced import Rebalanced
from trimtab.cli.report.transfer_panels import make_transfers
from trimtab.cli.simulation import Windows
from trimtab.formats.whole_file import write_whole

_MAP_WIDTH, _LEAST_HEIGHT, _PER_LAYER, _MOST_HEIGHT = 440, 150, 5, 440


def write_rebalance_report(
    path: Path,
    name: str,
    windows: Windows,
    placement: Placement,
    *,
    num_gpus: int,
    layers: Sequence[int] | None = None,
    previous: Slots | None = None,
    inactive_gpus: Sequence[int] = (),
    gpu_speed: Sequence[float] | None = None,
    expert_mib: float = CostModel.expert_mib,
) -> None:
    """Write one page with all that there is to be seen; the same figures make the same bytes.

    Args:
        path: where to.
        name: of the loads; any text.
        windows: [num_windows, num_layers, num_experts].
        placement: the answer.
        num_gpus: as was asked, like what follows.
        layers: [num_layers], the model's number of each; None where they count from 0.
        previous: [num_layers, num_replicas], the placement before, None where there was none.
        inactive_gpus: by number.
        gpu_speed: [num_gpus], None where all are alike.
        expert_mib: size of a copy of an expert.

    Raises:
        FileError: it can't be written there.
    """
    gpus = Gpus(num_gpus, inactive_gpus, gpu_speed)
    model = CostModel(expert_mib=expert_mib)
    found = Rebalanced(windows, gpus, previous, placement, _numbers(layers, placement), model)
    content = (
        make_headline(found),
        make_figures(found),
        make_section("Load of each GPU", make_maps(found)),
        make_section("Balancedness", make_balance(found)),
        make_section("Hottest experts", make_hottest(found)),
        make_section("Moves", make_transfers(found), make_rules(found)),
    )
    execution = placement.execution
    made_by = f"trimtab {execution.server_version}, {placement.algorithm}, {execution.solver} on {execution.device}"
    write_whole(path, make_page("trimtab rebalance", readable(name), content, made_by))


def draw_rebalance(
    path: Path,
    name: str,
    windows: Windows,
    placement: Placement,
    *,
    num_gpus: int,
    layers: Sequence[int] | None = None,
    previous: Slots | None = None,
    inactive_gpus: Sequence[int] = (),
    gpu_speed: Sequence[float] | None = None,
) -> None:
    """Write the load of each GPU by layer, before and after, as PNG; for the arguments see above.

    Raises:
        FileError: it can't be written there.
    """
    gpus, numbers = Gpus(num_gpus, inactive_gpus, gpu_speed), _numbers(layers, placement)
    found = Rebalanced(windows, gpus, previous, placement, numbers, CostModel())
    levels = {title: loads.level for title, loads in titles(found).items() if loads is not None}
    height = min(max(_LEAST_HEIGHT + _PER_LAYER * windows.shape[1], _LEAST_HEIGHT), _MOST_HEIGHT)
    draw = draw_levels(levels, numbers, Scale.of(*levels.values()), readable(name))
    write_whole(path, as_png(draw, _MAP_WIDTH * len(levels), height))


def _numbers(layers: Sequence[int] | None, placement: Placement) -> Sequence[int]:
    return range(len(placement.moves)) if layers is None else [int(layer) for layer in layers]
