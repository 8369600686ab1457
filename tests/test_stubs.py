"""The committed stubs are what the contract generates."""

from pathlib import Path

import pytest

from tests import stubs
from tests.kept_venv import ROOT


@pytest.mark.timeout(600)  # the first run installs grpcio-tools
@pytest.mark.skipif(bool(stubs.why_not_here()), reason=f"THE STUBS ARE NOT CHECKED HERE: {stubs.why_not_here()}")
def test_committed_stubs_are_what_the_contract_generates(tmp_path: Path) -> None:
    """Generating again, with the pinned oldest compiler, gives the committed files, byte for byte."""
    stubs.generate(tmp_path)

    generated = {path.name: path.read_bytes() for path in (tmp_path / stubs.PROTO.parent).iterdir()}
    folder = ROOT / "client" / stubs.PROTO.parent
    committed = {path.name: path.read_bytes() for path in folder.glob("*.py*") if path.name != "__init__.py"}
    assert generated.keys() == committed.keys()
    stale = [name for name in generated if generated[name] != committed[name]]
    assert not stale, f"{stale} are not what {stubs.PROTO} generates: make stubs"
