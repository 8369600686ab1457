"""Reports in a real browser: they stay at home, fit a phone and a desk, can be read in light, in dark and on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.report_cases import Case, random_slots
from tests.system.test_status_page import AT_HOME, CONTRASTS, PATIENCE, QUIET, READABLE
from tests.system.tools import tool
from trimtab import Client
from trimtab.cli.cost_model import CostModel
from trimtab.cli.replay import Plan, run_replay
from trimtab.cli.report.replay_report import write_replay_report
from trimtab.cli.simulation import Schedule
from trimtab.synthetic import generate_loads

NAMES = {
    "rebalance": {"Before", "After", "Balancedness by layer", "Balancedness against moves", "GiB from GPU to GPU"},
    "replay": {"Balancedness by window", "Worst layer by window", "Moves so far by", "Seconds lost so far by"},
}
LONG = "a/very/long/path/without/a/single/place/to/break/it/" * 4 + "<b>loads</b>.npz"
OUTSIDE = """
() => {
  const edge = document.documentElement.clientWidth;
  const out = [...document.body.querySelectorAll("*")].filter((element) =>
    !element.closest(".box table") && element.getBoundingClientRect().right > edge + 1);
  return out.map((element) => element.outerHTML.slice(0, 80));
}
"""
CUT = """
() => [...document.querySelectorAll("figure")].flatMap((figure) => {
  const frame = figure.getBoundingClientRect();
  const texts = [...figure.querySelectorAll("svg text")].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left || box.right > frame.right || box.bottom > frame.bottom;
  });
  return texts.map((text) => text.textContent);
})
"""
"""Words of drawings that stick out of their figures."""
INK = """
() => {
  const light = (colour) => {
    const parts = colour.match(/[0-9.]+/g).slice(0, 3).map((each) => Number(each) / 255);
    const [r, g, b] = parts.map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [...document.querySelectorAll("svg text")].map((text) => {
    const [ink, ground] = [getComputedStyle(text).fill, getComputedStyle(text.closest("figure")).backgroundColor];
    const [one, other] = [light(ink), light(ground)].sort((a, b) => b - a);
    return [text.textContent, (one + 0.05) / (other + 0.05)];
  });
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=tool("chromium"), args=[*QUIET, *AT_HOME])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of each kind: of DeepSeek-V3's 32 GPUs with one dead, and of windows under all policies."""
    folder = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(0)
    windows = rng.lognormal(size=(2, 8, 256))
    windows[:, 3] = 0
    before, after = (random_slots(rng, 8, 256, 288) for _ in range(2))
    after.reshape(8, 32, 9)[:, 5] = -1
    curve = [(0.0, 0.6), (300.0, 0.8), (2000.0, 0.95)]
    case = Case(windows, before, after, 32, inactive=(5,), curve=curve)
    case.write(folder / "rebalance.html", LONG)
    load = generate_loads(3, 16, num_windows=6, drift=0.3, seed=2)
    plan = Plan(["none", "fresh", "budgeted"], Schedule(1, 1), 6, None, CostModel())
    with Client("local") as client:
        report = run_replay(client, load, plan, num_gpus=4, num_replicas=20)
    write_replay_report(folder / "replay.html", LONG, report)
    return {kind: folder / f"{kind}.html" for kind in NAMES}


@contextmanager
def opened(browser: Browser, file: Path, width: int = 1280, **settings: Any) -> Iterator[Page]:
    """The page, unfolded; anything that the console says, or is asked of anybody, fails."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    yield page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:image/png")] == [file.as_uri()]


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_sticks_out(browser: Browser, pages: dict[str, Path], kind: str, width: int) -> None:
    """Whatever a file is called: what is wide scrolls in its box, and words of drawings stay in their figures."""
    with opened(browser, pages[kind], width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(CUT) == []
        sizes = page.evaluate("[...document.querySelectorAll('svg')].map((each) => each.getBoundingClientRect().width)")
        assert min(sizes) > (500 if width > 1000 else 300)


@pytest.mark.parametrize("kind", NAMES)
def test_all_text_can_be_read_in_light_and_in_dark(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    """Enough contrast everywhere, in drawings too; and the two schemes are two."""
    grounds = set()
    for scheme in ("light", "dark"):
        with opened(browser, pages[kind], color_scheme=scheme) as page:
            found = page.evaluate(CONTRASTS) + page.evaluate(INK)
            assert len(found) > 100
            assert [(text, ratio) for text, ratio in found if ratio < READABLE] == []
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


@pytest.mark.parametrize("kind", NAMES)
def test_what_is_seen_is_also_told(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    """Drawings have names, and numbers in tables with captions; boxes that scroll can be reached by key."""
    with opened(browser, pages[kind]) as page:
        assert page.get_by_role("img").count() == len(NAMES[kind])
        for name in NAMES[kind]:
            assert page.get_by_role("img", name=re.compile(f"^{name}")).count() == 1
        assert page.get_by_role("heading", level=1, name=f"trimtab {kind}").count() == 1
        tables = page.locator("table").count()
        assert page.get_by_role("table", name=re.compile(".{10}")).count() == tables
        assert page.get_by_role("region", name=re.compile(".{10}")).count() == tables
        assert page.locator("figure details table").count() == len(NAMES[kind])
        assert page.locator(".box:not([tabindex='0'])").count() == 0
        assert page.get_by_text("<b>loads</b>.npz").count() == 1


def test_a_place_tells_its_numbers(browser: Browser, pages: dict[str, Path]) -> None:
    """Each place of a map is where its colour is, and says layer, GPU and load."""
    with opened(browser, pages["rebalance"]) as page:
        drawing = page.locator("svg").first
        frame, first, last = (
            drawing.locator(part).bounding_box()
            for part in ("image >> nth=0", ".marks rect >> nth=0", ".marks rect >> nth=-1")
        )
        assert frame
        assert first
        assert last
        assert drawing.locator(".marks rect").count() == 8 * 32
        assert (first["x"], first["y"]) == pytest.approx((frame["x"], frame["y"]), abs=1)
        assert last["x"] + last["width"] == pytest.approx(frame["x"] + frame["width"], abs=1)
        assert last["y"] + last["height"] == pytest.approx(frame["y"] + frame["height"], abs=1)
        cells = page.locator("figure table").first.locator("tr").last.locator("td")
        assert drawing.locator(".marks rect").last.text_content() == f"layer 7, GPU 31: {cells.last.text_content()}"


@pytest.mark.parametrize("kind", NAMES)
def test_it_prints_in_light(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    """On paper the ground is white, and tables are whole, though the screen is dark."""
    with opened(browser, pages[kind], color_scheme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert (
            page.locator(".box >> visible=true").evaluate_all(
                "boxes => boxes.map(box => getComputedStyle(box).maxHeight)"
            )
            == ["none"] * page.locator(".box >> visible=true").count()
        )
