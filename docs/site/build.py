"""From the pages of the repository to a site: laid out, filled in, and handed to the generator."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from docs.site import pages

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / ".cache" / "site"
_LAID_OUT = ROOT / ".cache" / "docs"


class BuildError(Exception):
    """The site can't be built; the message says why."""


def build(site: Path = SITE, laid_out: Path = _LAID_OUT) -> None:
    """Build all of it anew.

    Args:
        site: the folder of the site; on the same disk as the other.
        laid_out: where pages are laid out first, and all that the generator keeps.

    Raises:
        BuildError: a page is missing, or the generator found a fault, and has said which on standard error.
    """
    for folder in (site, laid_out):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        pages.lay_out(laid_out / "pages")
    except pages.PageError as error:
        raise BuildError(str(error)) from None
    shutil.copyfile(ROOT / "mkdocs.yml", laid_out / "mkdocs.yml")
    generator: list[str | Path] = [
        Path(sys.executable).parent / "zensical",
        "build",
        "--strict",
        "--config-file",
        laid_out / "mkdocs.yml",
    ]
    done = subprocess.run(generator, check=False, capture_output=True, text=True)  # noqa: S603  # our own tool
    if done.returncode:
        print(done.stdout, done.stderr.partition("Traceback")[0], sep="", file=sys.stderr)
        raise BuildError("the generator found a fault, see above")
    (laid_out / "site").rename(site)  # it builds inside of its project alone
