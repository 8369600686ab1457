"""The contract, as buf sees it: its style, and that it stays what the last release promised.

A release adds the image of its contract:
`.tools/node_modules/.bin/buf build proto --exclude-source-info -o proto/released/trimtab-VERSION.binpb`.
"""

import shutil
from pathlib import Path

from tests.kept_venv import ROOT
from tests.system.tools import run, said


def _version(image: Path) -> list[int]:
    return [int(part) for part in image.stem.removeprefix("trimtab-").split(".")]


def _last_release() -> Path:
    return max((ROOT / "proto" / "released").glob("trimtab-*.binpb"), key=_version)


def test_contract_keeps_buf_s_standard() -> None:
    """Buf finds nothing to say about names, comments and layout."""
    linted = run("buf", "lint", "proto")
    assert linted.returncode == 0, said(linted)


def test_contract_is_formatted() -> None:
    """Buf would not write the file otherwise."""
    formatted = run("buf", "format", "proto", "--diff", "--exit-code")
    assert formatted.returncode == 0, said(formatted)


def test_contract_breaks_nothing_of_the_last_release() -> None:
    """Clients of the last release still understand this server."""
    compared = run("buf", "breaking", "proto", "--against", _last_release())
    assert compared.returncode == 0, said(compared)


def test_a_changed_field_number_would_be_found(tmp_path: Path) -> None:
    """Breaking the contract in a copy is noticed."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    contract = tmp_path / "proto" / "trimtab" / "v1" / "placement.proto"
    source = contract.read_text()
    assert "int32 num_packs = 2;" in source
    contract.write_text(source.replace("int32 num_packs = 2;", "int32 num_packs = 22;"))

    compared = run("buf", "breaking", tmp_path / "proto", "--against", _last_release())

    assert compared.returncode != 0
    assert "num_packs" in compared.stdout, said(compared)
