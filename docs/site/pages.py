"""The pages of the site: those of the repository, at the places they have there.

So a link from one to another is the same on a code host and in the site. What pages link to besides (a file, a folder)
comes along, and where a page says `<!-- made: NAME -->`, the reference of that name is filled in.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from docs.site import made

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "deploy/**/*.md")
STYLE = Path("docs/site/site.css")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_MADE = re.compile(r"<!-- made: ([\w-]+) -->")
_FENCED = re.compile(r"^( *)```.*?^\1```", re.DOTALL | re.MULTILINE)


class PageError(Exception):
    """A page can't be laid out; the message names it and says why."""


def pages() -> list[Path]:
    """All pages, relative to the root, in a fixed order."""
    return [path.relative_to(ROOT) for pattern in PAGES for path in sorted(ROOT.glob(pattern))]


def lay_out(into: Path) -> None:
    """Lay out all pages, and what they link to, below a folder.

    Raises:
        PageError: a link leads nowhere, or a page wants a reference that nothing makes.
    """
    for page in pages():
        _write(into / page, _filled_in(page, (ROOT / page).read_text()))
    _write(into / STYLE, (ROOT / STYLE).read_text())
    for target in sorted(_linked()):
        if (ROOT / target).is_dir():
            _list_folder(target, into)
        elif not (into / target).exists():
            (into / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / target, into / target)


def links(text: str) -> list[str]:
    """What the relative links of a page lead to, its code left out."""
    return LINK.findall(_FENCED.sub("", text))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _filled_in(page: Path, text: str) -> str:
    def make(found: re.Match[str]) -> str:
        try:
            return made.MAKERS[found[1]]()
        except KeyError:
            raise PageError(f"{page}: nothing makes {found[1]!r}, only {', '.join(made.MAKERS)}") from None

    return _MADE.sub(make, text)


def _linked() -> set[Path]:
    found = set()
    for page in pages():
        for link in links((ROOT / page).read_text()):
            target = (ROOT / page.parent / link).resolve()
            if not target.exists() or not target.is_relative_to(ROOT):
                raise PageError(f"{page} links to {link}, which is not in this repository")
            found.add(target.relative_to(ROOT))
    return found


def _list_folder(folder: Path, into: Path) -> None:
    """Code hosts show what is in a folder; a site has to be told."""
    if (into / folder / "README.md").exists():
        return
    files = sorted(path.name for path in (ROOT / folder).iterdir() if path.is_file())
    for name in files:
        (into / folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / folder / name, into / folder / name)
    entries = "\n".join(f"- [{name}]({name})" for name in files)
    _write(into / folder / "index.md", f"# {folder}\n\nThe files of this folder:\n\n{entries}\n")
