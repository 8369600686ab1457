"""The site of the documentation, built and looked at: all it links to is there, and it stays at home."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docs.site.build import BuildError, build
from docs.site.pages import pages
from playwright.sync_api import Browser, sync_playwright

from tests.system.test_status_page import AT_HOME, QUIET
from tests.system.tools import tool

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("video", "src")}


class Page(HTMLParser):
    """What a page of the site links to, loads, and can be linked to at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif (tag, name) in LOADED and dict(attrs).get("rel") != "canonical":
                self.loads.append(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from the pages as they are now; a fault that the generator finds fails it."""
    folder = tmp_path_factory.mktemp("site")
    build(folder / "site", folder / "docs")
    return folder / "site"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where a server of this machine has the site."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing: the test says what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=tool("chromium"), args=[*QUIET, *AT_HOME])
        yield chromium
        chromium.close()


def html(site: Path) -> dict[Path, Page]:
    """All pages of the site, by their files; that for what is not found may lie anywhere, and is left out."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_the_site_has_every_page(site: Path) -> None:
    """Each page of the repository, its folders alike."""
    for page in pages():
        made = page.parent if page.name == "README.md" else page.with_suffix("")
        assert (site / made / "index.html").is_file(), page


def test_links_and_anchors_lead_somewhere(site: Path) -> None:
    """Also those that the generator makes itself: of menus, tables of contents, references."""
    found = html(site)
    broken = []
    for path, page in found.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in found[target].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_pages_stay_at_home_and_fit_a_phone(site: Path, address: str, browser: Browser) -> None:
    """No page loads anything from another host, or makes the console speak, or scrolls sideways at 400 pixels."""
    asked: list[str] = []
    said: list[str] = []
    wide: list[str] = []
    window = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
    window.on("request", lambda request: asked.append(request.url))
    window.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    window.on("pageerror", lambda error: said.append(str(error)))
    for path, page in html(site).items():
        name = str(path.relative_to(site))
        assert [link for link in page.loads if urlsplit(link).netloc] == [], name
        window.goto(f"{address}/{name}")
        if window.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(name)
    window.wait_for_load_state("networkidle")
    window.close()
    assert len(asked) > len(pages())
    assert [url for url in asked if not url.startswith((f"{address}/", "data:", "blob:"))] == []
    assert (said, wide) == ([], [])


def test_the_search_finds_words(address: str, browser: Browser) -> None:
    """In the browser, without a server for it."""
    window = browser.new_page()
    window.goto(address)
    window.keyboard.press("Control+k")
    window.keyboard.type("balancedness", delay=20)
    window.wait_for_selector("text=Contract", timeout=30_000)
    window.close()


def test_a_link_to_nowhere_fails_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does an anchor that is not there, as the generator sees it."""
    (tmp_path / "repository" / "docs").mkdir(parents=True)
    monkeypatch.setattr("docs.site.pages.ROOT", tmp_path / "repository")
    monkeypatch.setattr("docs.site.pages.STYLE", Path("README.md"))
    (tmp_path / "repository" / "README.md").write_text("# A\n\n[b](b.md)\n")
    with pytest.raises(BuildError, match=r"README.md links to b.md, which is not in this repository"):
        build(tmp_path / "site", tmp_path / "docs")
    (tmp_path / "repository" / "README.md").write_text("# A\n\n[b](#b)\n")
    with pytest.raises(BuildError, match="the generator found a fault"):
        build(tmp_path / "site", tmp_path / "docs")
