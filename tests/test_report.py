"""Pages of rebalances and replays: what they say and never say, and that they repeat."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread

from tests.command import NOBODY, failed, ok, run
from tests.html_page import read
from tests.report_cases import Case, plain_sources, random_case, random_slots
from trimtab import Client
from trimtab.cli.cost_model import CostModel
from trimtab.cli.replay import Plan, ReplayReport, in_words, run_replay
from trimtab.cli.report.page import NOTHING
from trimtab.cli.report.rebalance_report import draw_rebalance, write_rebalance_report
from trimtab.cli.report.replay_report import draw_replay, write_replay_report
from trimtab.cli.simulation import Schedule
from trimtab.formats import FileError, write_loads
from trimtab.synthetic import generate_loads

HOSTILE = "</title><script>alert(1)</script>\"'&$style \u202e\udcff\n<img src=x onerror=alert(2)>.npz"


@pytest.fixture(scope="module")
def case() -> Case:
    """A dead GPU, a layer without load, layers that are not numbered in a row."""
    curve = [(0.0, 0.5), (10.0, 0.9), (110.0, 1.0)]
    case = replace(random_case(5, inactive=(2,)), layers=(3, 4, 6, 7), curve=curve)
    case.after.reshape(4, 4, -1)[:, 2] = -1
    return case


@pytest.fixture(scope="module")
def page(case: Case, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its report, under a name that means harm."""
    return case.write(tmp_path_factory.mktemp("report") / "a.html", HOSTILE)


def test_the_page_of_a_rebalance_tells_its_figures(case: Case, page: str) -> None:
    """The headline, the maps, the layers, the experts and the moves, as counted one by one; layers by their numbers."""
    told = read(page)
    placement = case.placement
    before, after = (float(np.nanmean(each)) for each in (placement.balancedness_before, placement.balancedness_after))
    moves, filled = placement.moves.sum(), (case.after >= 0).sum()
    first, second = told.text["p"][1:3]
    assert f"With {moves} moves, {moves / filled:.1%} of the filled slots" in first
    assert f"from {before:.4f} to {after:.4f}" in first
    assert f"{0.4 * (1 - after):.1%} of the time, not {0.4 * (1 - before):.1%}" in second
    summary = {row[0]: row[1:] for row in told.table("4 layers (1 with no load), 10 experts in 16 slots, 4 GPUs of 4")}
    assert summary["balancedness: mean of the layers"] == [f"{before:.4f}", f"{after:.4f}", "1.0000"]
    assert summary["balancedness: worst layer"][1] == f"{np.nanmin(placement.balancedness_after):.4f}"
    assert "inactive GPUs: 2" in next(iter(told.tables))
    for name, slots in (("Before", case.before), ("After", case.after)):
        rows = told.table(f"{name}: load over the layer's mean")
        assert [row[0] for row in rows] == ["layer 3", "layer 4", "layer 6", "layer 7"]
        for layer, row in enumerate(rows):
            levels = case.levels(slots, layer) if slots is not None else []
            shown = [f"{value:.3f}" for value in np.mean(levels, axis=0)] if levels else ["none"] * 3
            assert row[1:] == [*shown[:2], "none", *shown[2:]]
    layers = told.table("Balancedness by layer")
    assert [row[0] for row in layers] == ["3", "4", "6", "7"]
    assert layers[1][1:4] == [NOTHING] * 3
    assert [int(row[4]) for row in layers] == placement.moves.tolist()
    assert {row[0] for row in told.table("with the most load")} <= {"3", "6", "7"}
    matrix = told.table("Copies from a GPU")
    sent, loaded, _ = plain_sources(case)
    assert [row[0] for row in matrix] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3", "storage"]
    assert {(a, b): int(n) for a, row in enumerate(matrix[:4]) for b, n in enumerate(row[1:]) if n} == sent
    assert [int(n or 0) for n in matrix[4][1:]] == loaded
    gib = 42 / 1024
    by_gpu = told.table("Copies by GPU")
    assert by_gpu[3][2] == f"{sum(n for (a, _), n in sent.items() if a == 3) * gib:,.2f}"
    assert len(told.names) == 5


def test_the_curve_says_where_to_stop(page: str) -> None:
    """In words, in its marks and in the table."""
    told = read(page)
    words = "Half of the gain takes 7 moves, 90% of the gain takes 60 moves, all of it 110, to 1.0000."
    assert words in told.text["p"]
    assert f"Balancedness against moves. {words}" in told.names
    assert "half of the gain: 7 moves" in told.text["text"]
    assert told.table("What moves buy") == [["0", "0.5000"], ["10", "0.9000"], ["110", "1.0000"]]


def test_without_a_placement_before_it_is_compared_with_experts_in_order(tmp_path: Path) -> None:
    """As engines start."""
    case = replace(random_case(2), before=None, curve=[])
    page = read(case.write(tmp_path / "a.html"))
    in_order = np.tile(np.arange(16) % 10, (4, 1))
    assert f"where experts in order would have {np.nanmean(case.balancedness(in_order)):.4f}" in page.text["p"][1]
    assert page.heads("4 layers") == ["", "experts in order", "after", "bound"]
    assert "Not placed: experts in order" in page.text["h3"]
    assert any("compared with experts in order, as engines start without one" in text for text in page.text["p"])


def one(*shape: int) -> Any:
    return np.ones(shape, np.int64)


_EVEN = np.tile(np.arange(8), (2, 1))
_NO_LOAD = np.zeros((2, 2, 8))
ODD: dict[str, tuple[Case, str]] = {
    "one layer": (random_case(0, layers=1), "1 layer, 10 experts in 16 slots, 4 GPUs of 4"),
    "one of all": (Case(one(1, 1, 1), _EVEN[:1, :1], _EVEN[:1, :1], 1, curve=[(0.0, 1.0)]), "1 slot, 1 GPU of 1"),
    "no load": (Case(_NO_LOAD, _EVEN, _EVEN, 4, curve=[(0.0, 0.0)]), "2 layers (2 with no load)"),
    "no load, from nothing": (Case(_NO_LOAD, None, _EVEN, 4), "No layer has any load, so there is nothing"),
    "from nothing, one dead": (Case(one(1, 2, 4), None, _EVEN % 4, 4, inactive=(1,)), "so this shows the one made"),
    "all lost": (Case(one(1, 2, 8), 0 * _EVEN - 1, _EVEN, 4), "100.0% of the filled slots, balancedness becomes 1"),
}


@pytest.mark.parametrize(("odd", "told"), ODD.values(), ids=ODD)
def test_odd_shapes_are_told_and_drawn(tmp_path: Path, odd: Case, told: str) -> None:
    """Without a warning, and without a figure that is none."""
    page = odd.write(tmp_path / "a.html")
    assert told in page
    assert read(page).names
    shown = re.sub(r"<style.*?</style>|base64,[^\"]*", "", page, flags=re.DOTALL)
    assert not re.search(r"\bnan\b|\binf\b|None", shown)


def test_many_gpus_share_places(tmp_path: Path) -> None:
    """A map of 512 GPUs shows the heaviest of four, the moves their sum, and says so."""
    rng = np.random.default_rng(0)
    windows = rng.integers(1, 100, (1, 2, 600))
    before, after = (random_slots(rng, 2, 600, 1024) for _ in range(2))
    case = Case(windows, before, after, 512)
    page = read(case.write(tmp_path / "a.html"))
    assert (tmp_path / "a.html").stat().st_size < 1_500_000
    (row, _) = page.table("After: load")
    level = case.levels(after, 0)[0]
    assert row[1:] == [f"{max(level[first : first + 4]):.3f}" for first in range(0, 512, 4)]
    assert page.heads("After: load")[1:3] == ["GPUs 0 to 3", "GPUs 4 to 7"]
    assert sum(int(n) for row in page.table("Copies from a GPU") for n in row[1:] if n) == case.placement.moves.sum()
    said = " ".join(page.text["p"])
    assert "4 neighbouring GPUs share a place, which shows the heaviest" in said
    assert "4 neighbouring GPUs share a place, which shows their sum" in said


def test_the_real_size_is_a_small_file(tmp_path: Path) -> None:
    """61 layers and 32 GPUs of 9."""
    rng = np.random.default_rng(0)
    windows = rng.integers(1, 100, (1, 61, 256))
    before, after = (random_slots(rng, 61, 256, 288) for _ in range(2))
    page = tmp_path / "a.html"
    placement = Case(windows[:, :1], before[:1], after[:1], 32).placement
    some = np.full(61, 0.9)
    placement = replace(placement, physical_to_logical=after, moves=np.full(61, 200), bound=some)
    placement = replace(placement, balancedness_before=some, balancedness_after=some)
    write_rebalance_report(page, "real", windows, placement, num_gpus=32, previous=before)
    assert page.stat().st_size < 1_000_000
    assert "<title>layer 60, GPU 31: " in page.read_text("utf-8")


def test_names_can_do_no_harm(page: str) -> None:
    """What a file is called is text, whatever it holds; what can't be shown is replaced."""
    told = read(page)
    assert "script" not in told.tags
    assert "img" not in told.tags
    shown = HOSTILE.translate(dict.fromkeys(map(ord, "\u202e\udcff\n"), "\N{REPLACEMENT CHARACTER}"))
    assert told.text["title"][0] == f"trimtab rebalance: {shown}"
    assert told.text["p"][0] == shown


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    """No script, no address; its policy allows its own style and pictures within it, and nothing else."""
    told = read(page)
    assert told.sources
    assert [source for source in told.sources if not source.startswith(("data:", "#"))] == []
    assert re.findall(r"url\((?!#)", page) == []
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    used, there = set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", page)), re.findall(r' id="([^"]*)"', page)
    assert used == set(there)
    assert len(there) == len(set(there))


def test_the_same_figures_make_the_same_bytes(tmp_path: Path, case: Case, page: str) -> None:
    """Also where matplotlib is set otherwise, which stays as it was; no date gets in."""
    drawn = []
    for size in (8, 30):
        with mpl.rc_context({"font.size": size, "axes.linewidth": size, "svg.fonttype": "path"}):
            draw_rebalance(tmp_path / "a.png", "a", case.windows, case.placement, num_gpus=4, inactive_gpus=[2])
            drawn.append((tmp_path / "a.png").read_bytes())
            assert mpl.rcParams["font.size"] == size
    assert drawn[0] == drawn[1]
    with mpl.rc_context({"font.size": 30, "axes.linewidth": 30, "svg.fonttype": "path"}):
        assert case.write(tmp_path / "a.html", HOSTILE) == page


def test_the_maps_alone_are_a_picture(tmp_path: Path) -> None:
    """Both maps, or one, under the name, whatever that is."""
    case = random_case(0)
    both, alone = tmp_path / "both.png", tmp_path / "alone.png"
    name = f"{HOSTILE} $a_{{b}}$ {'long' * 50} \u7d75"
    draw_rebalance(both, name, case.windows, case.placement, num_gpus=4, previous=case.before)
    draw_rebalance(alone, name, case.windows, case.placement, num_gpus=4, inactive_gpus=[1])
    wide, narrow = imread(both), imread(alone)
    assert wide.shape[1] == pytest.approx(2 * narrow.shape[1], abs=1)
    for picture in (wide, narrow):
        assert picture[0, -1, :3].tolist() == [1, 1, 1]
        assert len(np.unique(picture[::8, ::8].reshape(-1, picture.shape[2]), axis=0)) > 20


@pytest.fixture(scope="module")
def replayed() -> ReplayReport:
    """Six windows, the third without load, under all policies."""
    load = generate_loads(3, 16, num_windows=6, drift=0.3, seed=2)
    load[2] = 0
    plan = Plan(["none", "fresh", "budgeted"], Schedule(1, 2), 6, None, CostModel())
    with Client("local") as client:
        return run_replay(client, load, plan, num_gpus=4, num_replicas=20)


def test_the_page_of_a_replay_tells_its_figures(tmp_path: Path, replayed: ReplayReport) -> None:
    """The sentence, the table, and four figures over time whose ends are the sums."""
    write_replay_report(tmp_path / "a.html", HOSTILE, replayed)
    page = read((tmp_path / "a.html").read_text("utf-8"))
    assert in_words(replayed) in page.text["p"]
    assert len(page.names) == 4
    table = page.table("6 windows of 3 layers, 16 experts in 20 slots, 4 GPUs of 5; judged on 5 windows")
    assert [row[0] for row in table] == ["none", "fresh", "budgeted"]
    assert [row[5] for row in table] == [f"{replayed.num_moves(policy):,}" for policy in replayed.series]
    names = ("Balancedness", "Moves so far", "Seconds lost so far")
    balancedness, moves, seconds = (page.table(f"{name} by window") for name in names)
    assert [row[0] for row in balancedness] == ["1", "2", "3", "4", "5"]
    assert balancedness[1][1:] == [NOTHING] * 3
    assert balancedness[4][1:] == [f"{series.balancedness[4]:.4f}" for series in replayed.series.values()]
    assert moves[-1][1:] == [f"{replayed.num_moves(policy):,}" for policy in replayed.series]
    assert seconds[-1][1:] == [f"{replayed.seconds_lost(policy)['total']:,.2f}" for policy in replayed.series]
    worst = page.table("Worst layer by window")
    assert worst[0][1:] == [f"{series.worst_layer[0]:.4f}" for series in replayed.series.values()]


def test_a_replay_of_nothing_is_drawn(tmp_path: Path, replayed: ReplayReport) -> None:
    """One policy, no load in any window: figures that are none, and a picture."""
    series = replayed.series["none"]
    none = np.full(len(series.window), np.nan)
    empty = replace(replayed, series={"none": replace(series, balancedness=none, worst_layer=none)})
    write_replay_report(tmp_path / "a.html", "empty", empty)
    page = read((tmp_path / "a.html").read_text("utf-8"))
    assert page.table("Balancedness by window")[0] == ["1", NOTHING]
    draw_replay(tmp_path / "a.png", "empty", empty)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_the_command_writes_both(tmp_path: Path) -> None:
    """A page and a picture, whose places are told; the page says what the command says."""
    loads, page, picture = (tmp_path / name for name in ("loads.npz", "a.html", "a.png"))
    write_loads(loads, generate_loads(3, 16, num_windows=4, drift=0.2, seed=2))
    asked = ("replay", loads, "--gpus", 4, "--replicas", 20, "--target", "local", "--report", page, "--plot", picture)
    said = ok(*asked).splitlines()
    assert said[-2:] == [f"drawn to {page}", f"drawn to {picture}"]
    told = read(page.read_text("utf-8"))
    assert said[-3] == told.text["p"][1]
    assert told.text["p"][0] == str(loads)
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("--report", "a.png", "--report a.png: must end in .html"),
        ("--report", "no/a.html", "--report no/a.html: there is no folder no"),
        ("--plot", "a.html", "--plot a.html: must end in .png"),
    ],
)
def test_places_that_cannot_be_written_to(option: str, file: str, message: str) -> None:
    """Told before anything is solved: the server named here does not exist."""
    assert message in failed(run("replay", "--target", NOBODY, option, file), 2)


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is solved too."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    line = failed(run("replay", "--target", NOBODY, "--report", "a.html"), 2)
    assert line.startswith("trimtab: --report needs matplotlib (")
    assert line.endswith("): pip install 'trimtab[cli]'")


def test_a_page_that_cannot_be_written_is_an_error_of_its_file(tmp_path: Path) -> None:
    """Named as files are, and nothing is left behind."""
    (tmp_path / "a.html").mkdir()
    with pytest.raises(FileError, match=re.escape(f"{tmp_path / 'a.html'}: can't be written")):
        ODD["one of all"][0].write(tmp_path / "a.html")
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]
