"""What is released: a wheel and a source distribution that make each other, and a client that installs lightly."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from deploy import package
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import trimtab
from tests.kept_venv import ROOT, kept_venv
from trimtab.cli.server_process import ServerProcess


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> package.Built:
    """Both files, by the tools that are installed here."""
    return package.build(tmp_path_factory.mktemp("dist"), isolated=False)


def test_the_two_files_make_each_other(built: package.Built, tmp_path: Path) -> None:
    """The wheel of the source distribution is that of the checkout, and what they say can be shown on an index."""
    package.check_same(built.wheel, package.wheel_of_checkout(tmp_path, isolated=False))
    package.check_words(built)


def test_the_wheel_has_the_packages_and_nothing_else(built: package.Built) -> None:
    """No tests, no benchmarks; both packages are typed; both commands are there."""
    package.check_contents(built.wheel)
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        entries = configparser.ConfigParser()
        entries.read_string(wheel.read(name).decode())
    assert list(entries["console_scripts"]) == ["trimtab", "trimtab-server"]


def test_the_source_distribution_can_be_tested(built: package.Built, tmp_path: Path) -> None:
    """It has all that git keeps, and nothing that git ignores."""
    shutil.unpack_archive(built.sdist, tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    packed = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    listing = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(listing, check=True, capture_output=True, text=True, cwd=ROOT).stdout.splitlines()
    assert packed - {"PKG-INFO"} == {name for name in listed if (ROOT / name).exists()}


def test_the_version_stands_in_one_place(built: package.Built) -> None:
    """The files carry the package's version, and the changelog's newest entry is about it."""
    assert built.metadata["Version"] == trimtab.__version__
    assert built.sdist.name == f"trimtab-{trimtab.__version__}.tar.gz"
    (newest, *_) = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest == trimtab.__version__
    images = re.findall(r"newTag: (\S+)", "".join(p.read_text() for p in (ROOT / "deploy").rglob("kustomization.yaml")))
    assert {tag.removesuffix("-cuda") for tag in images} == {trimtab.__version__}


def test_the_pythons_that_are_named_are_those_that_it_installs_on(built: package.Built) -> None:
    """Classifiers and the bound do not contradict each other, and the type checker looks at the oldest."""
    named = list(package.pythons(built.metadata))
    assert named == ["3.10", "3.11", "3.12", "3.13"]
    bound = SpecifierSet(built.metadata["Requires-Python"])
    assert all(bound.contains(version) for version in named)
    assert not bound.contains("3.9")
    assert f'python_version = "{named[0]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_client_installs_lightly_and_calls(built: package.Built, server: ServerProcess, tmp_path: Path) -> None:
    """With what the base asks for and nothing else: its size, no code of the server, a real server's answers."""
    wanted = [Requirement(line) for line in built.metadata.get_all("Requires-Dist", [])]
    base = kept_venv("base", *(str(each) for each in wanted if each.marker is None))
    install = ("-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps", "--target", tmp_path)
    subprocess.run([base, *install, built.wheel], check=True)
    (beside,) = (base.parent.parent / "lib").glob("python*/site-packages")
    assert 20 < package.size(beside) + package.size(tmp_path) < package.MAX_MB
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    here = {**os.environ, "PYTHONPATH": str(ROOT / "client")}
    assert package.called(base, server.listen, env) == package.called(Path(sys.executable), server.listen, here)
    start: list[str | Path] = [base, "-c", "import trimtab.cli; trimtab.cli.main()"]
    command = subprocess.run(start, env=env, capture_output=True, text=True, check=False)
    assert command.returncode == 1
    assert command.stderr.endswith("pip install 'trimtab[cli]'\n")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["trimtab/__init__.py", "tests/test_a.py"], "files of neither package: tests/test_a.py"),
        (["trimtab/__init__.py", "trimtab/py.typed"], "lacks trimtab_server/py.typed, trimtab_server/status_page.css"),
    ],
)
def test_a_wheel_that_holds_something_else_is_told(names: list[str], words: str, tmp_path: Path) -> None:
    """By the names of the files."""
    with zipfile.ZipFile(tmp_path / "trimtab-1-py3-none-any.whl", "w") as wheel:
        for name in names:
            wheel.writestr(name, "")
    with pytest.raises(package.PackageError, match=words):
        package.check_contents(tmp_path / "trimtab-1-py3-none-any.whl")


def test_what_fails_says_why(tmp_path: Path) -> None:
    """Two wheels that differ, a command that fails."""
    one, other = tmp_path / "one.whl", tmp_path / "other.whl"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    with pytest.raises(package.PackageError, match=r"one.whl and .*other.whl differ"):
        package.check_same(one, other)
    with pytest.raises(package.PackageError, match=r"-m twine check --strict .* failed with 1:"):
        package.check_words(package.Built(one, other))
