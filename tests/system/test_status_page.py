"""The status page in a real browser: it shows, renews itself, fits a phone, can be read, and stays at home."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import trimtab
from tests.system.tools import tool
from trimtab.cli.server_process import ServerProcess, running_server

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
AT_HOME = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
PATIENCE = 60_000
"""Milliseconds, for what comes about every few seconds."""
LAYERS = 58
WEIGHT = np.random.default_rng(0).lognormal(size=(LAYERS, 288))
READABLE = 4.5
"""Contrast of small text, by WCAG 2's level AA."""
BOX = "element => element.getBoundingClientRect().toJSON()"
CONTRASTS = """
() => {
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => {
    const parts = numbers(colour).slice(0, 3).map((each) => each / 255);
    const [r, g, b] = parts.map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const colour = getComputedStyle(element).backgroundColor;
    return numbers(colour)[3] === 0 ? behind(element.parentElement) : colour;
  };
  const texts = [...document.body.querySelectorAll("*")].filter((element) =>
    !element.closest("svg, script") && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.map((element) => {
    const [one, other] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    return [element.textContent.trim().slice(0, 40), (one + 0.05) / (other + 0.05)];
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
def server() -> Iterator[ServerProcess]:
    """A server that packed once, rebalanced once and refused once."""
    with running_server("--max-batch-rows=4096") as process, trimtab.Client(process.listen) as client:
        client.pack(WEIGHT, 32)
        client.rebalance(WEIGHT, num_gpus=32, num_replicas=288, previous=[list(range(288))] * LAYERS)
        with pytest.raises(trimtab.InvalidArgumentError):
            client.pack([[1.0, 2.0, 3.0]], 2)
        yield process


@contextmanager
def opened(browser: Browser, server: ServerProcess, width: int = 1280, **settings: Any) -> Iterator[Page]:
    """The page, in a window of its own; anything that the console says, or is asked of another host, fails."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://{server.metrics}/")
    yield page
    context.close()
    assert said == []
    assert set(asked) == {f"http://{server.metrics}/"}


def test_numbers_renew_themselves_and_leave_the_reader_alone(browser: Browser, server: ServerProcess) -> None:
    """Another call is counted soon, without a new load: the fold stays open, the box stays scrolled and focused."""
    with opened(browser, server, width=400) as page, trimtab.Client(server.listen) as client:
        page.evaluate("window.mark = 'still here'")
        page.click("summary")
        page.focus("#solves")
        page.evaluate("document.getElementById('solves').scrollLeft = 50")
        rows = page.locator("#solves tbody tr").count()
        client.pack(WEIGHT[:3], 32)
        page.wait_for_function("rows => document.querySelectorAll('#solves tbody tr').length === rows", arg=rows + 1)
        assert page.locator("#solves tbody tr").first.inner_text().split()[1:3] == ["pack", "3"]
        assert page.evaluate("[mark, document.querySelector('details').open]") == ["still here", True]
        focused = page.evaluate("[document.activeElement.id, document.activeElement.scrollLeft]")
        assert focused == ["solves", 50]


def test_charts_are_drawn(browser: Browser, server: ServerProcess) -> None:
    """Lines have a shape once a few seconds were read; every layer has its place and tells its numbers."""
    with opened(browser, server) as page:
        page.wait_for_function("() => document.querySelector('svg.chart .line0').getBoundingClientRect().width > 1")
        strip = page.locator("svg.strip").last
        bars, after, frame, first, last = (
            strip.locator(part).evaluate(BOX)
            for part in (".bars", ".line0", "xpath=.", "rect >> nth=0", "rect >> nth=-1")
        )
        assert bars["height"] > 5
        assert after["width"] == pytest.approx(frame["width"], abs=4)
        assert first["left"] == pytest.approx(frame["left"], abs=1)
        assert last["right"] == pytest.approx(frame["right"], abs=1)
        assert strip.locator("rect").count() == LAYERS
        told = strip.locator("rect").last.text_content() or ""
        assert re.fullmatch(r"layer 57: 0\.\d{4} to (0\.\d{4}|1\.0000)", told)


def test_nothing_sticks_out_on_a_phone(browser: Browser, server: ServerProcess) -> None:
    """At 400 pixels the page does not scroll sideways, even unfolded: what is wide does so in its box."""
    with opened(browser, server, width=400) as page:
        page.click("summary")
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        boxes = page.evaluate("[...document.querySelectorAll('.box')].map(box => box.scrollWidth - box.clientWidth)")
        assert len(boxes) == 3
        assert min(boxes) > 0


def test_all_text_can_be_read_in_light_and_in_dark(browser: Browser, server: ServerProcess) -> None:
    """Enough contrast everywhere, also of what is hidden now; and the two schemes are two."""
    pages = []
    for scheme in ("light", "dark"):
        with opened(browser, server, color_scheme=scheme) as page:
            found = page.evaluate(CONTRASTS)
            assert len(found) > 200
            assert [(text, ratio) for text, ratio in found if ratio < READABLE] == []
            pages.append(
                page.evaluate("['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name])")
            )
    assert pages[0][0] != pages[1][0]
    assert pages[0][1] != pages[1][1]


def test_what_is_seen_is_also_told(browser: Browser, server: ServerProcess) -> None:
    """Drawings, tables and the boxes that scroll have names for who does not see them."""
    with opened(browser, server) as page:
        page.click("summary")
        assert page.get_by_role("heading", level=1, name="trimtab").count() == 1
        assert page.get_by_role("img", name=re.compile("the last 10 minutes|nothing yet")).count() == 8
        assert (
            page.get_by_role("img", name=re.compile("Balancedness by layer of a (pack|rebalance): mean 0")).count() >= 2
        )
        assert page.get_by_role("table", name=re.compile("Balancedness is the mean")).count() == 1
        assert page.get_by_role("table", name=re.compile("by default")).count() == 2
        assert page.get_by_role("region", name=re.compile("Table of|Settings: ")).count() == 3


def test_it_needs_no_script(browser: Browser, server: ServerProcess) -> None:
    """Where scripts are off it is the same page, and loads itself again."""
    with opened(browser, server, java_script_enabled=False) as page, trimtab.Client(server.listen) as client:
        assert page.get_by_text("● Ready").is_visible()
        client.pack(WEIGHT[:7], 32)
        page.locator("#solves td:text-is('7')").first.wait_for()  # so many layers


def test_a_server_that_is_gone_is_said_to_be(browser: Browser) -> None:
    """What the page still shows is called old."""
    with running_server() as server:
        page = browser.new_page()
        page.goto(f"http://{server.metrics}/")
        assert page.locator("#stale").is_hidden()
        server.stop()
        page.get_by_text("What is below was so before.").wait_for(timeout=PATIENCE)
        page.close()
