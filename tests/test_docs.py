"""The documentation: its links lead somewhere, and all of its code and commands run."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.site.pages import links, pages

from tests.docs_blocks import Block, Command, blocks, pages_with_blocks
from tests.docs_not_run import NOT_RUN, check_otherwise, client_flags, make_targets, server_flags, strangers, why_not
from tests.docs_session import Session
from tests.kept_venv import ROOT
from trimtab.cli.server_process import ServerProcess, running_server

PAGES = pages()
FOREIGN_FLAGS = {
    "--enable-eplb": "SGLang and vLLM",
    "--enable-feature": "Prometheus",
    "--init-expert-location": "SGLang",
    "--parts": "benchmarks.solvers",
    "--skip": "tests.harness.fuzz",
    "--values": "helm",
}
"""Flags in the prose that are other programs'."""


def named(page: Path) -> str:
    """A page's name in a test's."""
    return str(page)


@pytest.fixture(scope="module")
def documented() -> Iterator[ServerProcess]:
    """A server that pages may do with as they say; not that of other tests."""
    with running_server() as process:
        yield process


@pytest.fixture
def session(
    documented: ServerProcess, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    """A reader in an empty folder."""
    folder = tmp_path_factory.mktemp("page")
    monkeypatch.chdir(folder)
    reader = Session(folder, documented, tmp_path_factory.mktemp("bin"))
    yield reader
    reader.close()


def is_left_out(block: Block, command: Command) -> bool:
    """Whether the table names it; what it names is held in another way."""
    if why_not(str(block.page), command.words) is None:
        foreign = strangers(command)
        assert not foreign, f"{block.place}: {foreign} is neither named as not run, nor as a program that may be"
        return False
    check_otherwise(command)
    return True


@pytest.mark.parametrize("page", pages_with_blocks(), ids=named)
def test_all_that_a_page_says_can_be_done(page: Path, session: Session) -> None:
    """Every block in its order: code runs, commands run and say what is shown, data can be read."""
    for block in blocks(page):
        beginning = block.text.partition("\n")[0]
        if block.language != "console" and why_not(str(page), beginning):
            compile(block.text, block.place, "exec")  # at least it is Python
            continue
        session.run(block, is_left_out)
    if page == Path("README.md"):
        assert session.names["packing"].pack_index.shape == (58, 288)
        assert session.names["placement"].physical_to_logical.shape == (58, 288)
        assert 0 < session.names["placement"].moves.sum() <= 1800


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("console", "$ sudo reboot\n", "neither named as not run, nor as a program that may be"),
        ("console", "$ echo a | ssh b\n", "neither named as not run, nor as a program that may be"),
        ("console", "$ cat nothing\n", "cat nothing\nended with 1:"),
        ("console", "$ echo b\na\n", "shows:\na\n\nbut says:\nb\n"),
        ("console", "echo b\n", "begins without a prompt"),
        ("text", "$ echo b\n", "commands belong into a block of a console"),
        ("", "a\n", "no language that is checked: ''"),
    ],
)
def test_what_a_page_must_not_say(language: str, text: str, words: str, session: Session) -> None:
    """A block that does not do what it says fails, and what nobody has thought about is not run."""
    block = Block(Path("page.md"), 1, "", language, text)
    with pytest.raises(AssertionError, match=re.escape(words)):
        session.run(block, is_left_out)


def test_what_python_prints_is_what_is_shown(session: Session) -> None:
    """In the block of text right below."""
    session.run(Block(Path("page.md"), 1, "", "python", "a = 1 + 1\nprint(a)\n"), is_left_out)
    with pytest.raises(AssertionError, match="shows:\n3\n\nbut says:\n2\n"):
        session.run(Block(Path("page.md"), 5, "", "text", "3\n", follows=True), is_left_out)


def test_what_is_not_run_is_there() -> None:
    """The table names nothing that no page says."""
    said = {
        why_not(str(block.page), beginning)
        for page in pages_with_blocks()
        for block in blocks(page)
        for beginning in (
            [command.words for command in block.commands]
            if block.language == "console"
            else [block.text.partition("\n")[0]]
        )
    }
    assert set(NOT_RUN) - said == set()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is a file of this repository, and its anchor a heading there."""
    text = (ROOT / page).read_text()
    assert [link for link in links(text) if not (ROOT / page.parent / link).exists()] == []
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", text):
        target = (ROOT / page.parent / link) if link else ROOT / page
        assert anchor in anchors(target.read_text()), f"{link}#{anchor}"


def anchors(text: str) -> set[str]:
    """What code hosts make of a page's headings."""
    headings = re.findall(
        r"^#+ +(.*?)\s*$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_the_prose_names_is_there(page: Path) -> None:
    """Targets of make and flags, between backticks, also outside of blocks."""
    prose = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    )
    targets = {target for code in prose for target in re.findall(r"\bmake ([a-z][a-z-]*)", code)}
    assert targets - make_targets() == set()
    flags = {flag for code in prose for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*\*?", code)}
    known = client_flags() | server_flags() | set(FOREIGN_FLAGS)
    assert [flag for flag in flags if not fnmatch.filter(known, flag)] == []


def test_the_tests_that_the_pages_name_exist() -> None:
    """A defence without a test is a hope."""
    named_tests = re.findall(r"`(test_\w+)::(\w+|\*)`", (ROOT / "docs" / "security.md").read_text())
    assert len(named_tests) > 20
    missing = [
        f"{module}::{test}"
        for module, test in named_tests
        if test != "*" and f"def {test}(" not in (ROOT / "tests" / f"{module}.py").read_text()
    ]
    assert not missing
