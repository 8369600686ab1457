"""The pictures of the documentation are those that its script draws."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from docs.site.pictures import FOLDER, PICTURES
from docs.site.svg import Picture


@pytest.mark.parametrize(("name", "draw"), PICTURES.items(), ids=PICTURES)
def test_pictures_are_drawn_by_their_script(name: str, draw: Callable[[], Picture]) -> None:
    """Byte for byte, with the figures that stand in benchmarks.md now; `make pictures` draws them again."""
    drawn = draw().svg()
    assert (FOLDER / f"{name}.svg").read_text() == drawn
    ET.fromstring(drawn)  # noqa: S314  # our own


def test_there_are_no_other_pictures() -> None:
    """A picture that nobody draws goes stale."""
    assert {path.stem for path in FOLDER.iterdir()} == set(PICTURES)
