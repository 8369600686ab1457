"""Build the wheel and the source distribution into dist/, and check what a release has to hold.

Run: python -m deploy.package

The base install is made anew by each Python of those supported that is found here, and calls a real server.
"""

from __future__ import annotations

import email
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from trimtab.cli.server_process import running_server

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
SCRIPT = ROOT / "tests" / "call_everything.py"
MAX_MB = 110
"""What the base install may take, without pip: it goes into serving images."""
NOT_OURS = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "distutils-precedence.pth")
"""What a new virtual environment has before anything is installed."""
FILES = ("trimtab/py.typed", "trimtab_server/py.typed", "trimtab_server/status_page.css")
"""Of the files that are not Python's, those that a wheel would be worthless without."""


class PackageError(Exception):
    """What was built is not what a release holds; the message says why."""


@dataclass(frozen=True)
class Built:
    """The two files of a release."""

    sdist: Path
    wheel: Path

    @property
    def metadata(self) -> Message:
        """What the wheel says of itself."""
        with zipfile.ZipFile(self.wheel) as wheel:
            (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
            return email.message_from_bytes(wheel.read(name))


def build(into: Path, *, isolated: bool = True) -> Built:
    """A source distribution, and the wheel made of it. Isolated: by tools installed for that alone, as users do it."""
    _built(into, ROOT, "--sdist", isolated=isolated)
    (sdist,) = into.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as unpacked:
        shutil.unpack_archive(sdist, unpacked, filter="data")
        (source,) = Path(unpacked).iterdir()
        return Built(sdist, _built(into, source, "--wheel", isolated=isolated))


def wheel_of_checkout(into: Path, *, isolated: bool = True) -> Path:
    """The wheel that the checkout makes without a source distribution between."""
    return _built(into, ROOT, "--wheel", isolated=isolated)


def _built(into: Path, source: Path, *options: str, isolated: bool) -> Path:
    command = [sys.executable, "-m", "build", "--outdir", into, *options, *(() if isolated else ("--no-isolation",))]
    _run([*command, source])
    return max(into.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def check_words(built: Built) -> None:
    """An index can show the description, and takes the metadata.

    Raises:
        PackageError: twine says that it would not.
    """
    _run([sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel])


def check_contents(wheel: Path) -> None:
    """The two packages with their types, and nothing else.

    Raises:
        PackageError: a file is too many, or missing.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    strange = [name for name in names if name.split("/")[0] not in {"trimtab", "trimtab_server", _dist_info(wheel)}]
    if strange:
        raise PackageError(f"{wheel.name} has files of neither package: {', '.join(strange)}")
    missing = [name for name in FILES if name not in names]
    if missing:
        raise PackageError(f"{wheel.name} lacks {', '.join(missing)}")


def _dist_info(wheel: Path) -> str:
    return "-".join(wheel.name.split("-")[:2]) + ".dist-info"


def check_same(one: Path, other: Path) -> None:
    """The source distribution has all that the wheel is made of.

    Raises:
        PackageError: the two wheels differ.
    """
    if one.read_bytes() != other.read_bytes():
        raise PackageError(f"{one} and {other} differ: the source distribution does not make the checkout's wheel")


def size(packages: Path) -> float:
    """What a folder of installed packages takes, pip left out, in MB."""
    paths = [path for path in packages.rglob("*") if path.relative_to(packages).parts[0].split("-")[0] not in NOT_OURS]
    return sum(path.lstat().st_blocks * 512 for path in paths) / 1e6


def called(python: Path, target: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """What an installed client gets from a server, by all that it can call.

    Raises:
        PackageError: it fails, or has loaded code of the server.
    """
    code = "import sys, trimtab; print(*(name for name in sys.modules if name.startswith('trimtab_server')))"
    loaded = _run([python, "-c", code], env=env).split()
    if loaded:
        raise PackageError(f"import trimtab loads {', '.join(loaded)}")
    told: dict[str, Any] = json.loads(_run([python, SCRIPT, target], env=env))
    return {name: told[name] for name in ("blocking", "awaiting")}


def pythons(metadata: Message) -> dict[str, str | None]:
    """The Pythons that the classifiers name, and where this machine has them."""
    prefix = "Programming Language :: Python :: 3."
    minors = [line.removeprefix(prefix) for line in metadata.get_all("Classifier", []) if line.startswith(prefix)]
    return {f"3.{minor}": _found(f"3.{minor}") for minor in minors}


def _found(version: str) -> str | None:
    # pyenv puts a command for each version on the path, which runs where that version is chosen
    command = [f"python{version}", "-c", "import sys; print(sys.executable)"]
    try:
        return _run(command, {**os.environ, "PYENV_VERSION": version}).strip()
    except (FileNotFoundError, PackageError):
        return None


def check_base_install(python: str, wheel: Path, target: str, expected: dict[str, Any]) -> float:
    """Install the wheel and what it asks for into a new environment, call a server from there; its size in MB.

    Raises:
        PackageError: the install fails or is too large, or the answers are others.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run([python, "-m", "venv", folder])
        new = Path(folder) / "bin" / "python"
        _run([new, "-m", "pip", "install", "-qq", "--disable-pip-version-check", wheel])
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        megabytes = size(Path(_run([new, "-c", code]).strip()))
        if megabytes > MAX_MB:
            raise PackageError(f"the base install takes {megabytes:.0f} MB, at most {MAX_MB}")
        if called(new, target) != expected:
            raise PackageError(f"the client installed by {python} gets other answers than that of the checkout")
    return megabytes


def _run(command: Sequence[str | Path], env: dict[str, str] | None = None) -> str:
    # Elsewhere than in the checkout, whose packages would be found before those installed
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(  # noqa: S603  # the tools that build, and the Pythons found
            command, capture_output=True, text=True, check=False, cwd=elsewhere, env=env
        )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise PackageError(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{said}")
    return done.stdout


def main() -> None:
    """The command: build, check, and say what came of it."""
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    built = build(DIST)
    for path in (built.sdist, built.wheel):
        print(f"built     dist/{path.name}, {path.stat().st_size / 1e3:.0f} kB")
    check_words(built)
    check_contents(built.wheel)
    print("contents  two typed packages and nothing else; twine finds no fault")
    with tempfile.TemporaryDirectory() as folder:
        check_same(built.wheel, wheel_of_checkout(Path(folder)))
    print("same      the source distribution makes the checkout's wheel, byte for byte")
    with running_server() as server:
        expected = called(Path(sys.executable), server.listen, {**os.environ, "PYTHONPATH": str(ROOT / "client")})
        for version, python in pythons(built.metadata).items():
            if python is None:
                print(f"install   Python {version}: not on this machine, NOT TRIED")
                continue
            megabytes = check_base_install(python, built.wheel, server.listen, expected)
            print(f"install   Python {version}: {megabytes:.0f} MB; no code of the server; a server's answers")


if __name__ == "__main__":
    try:
        main()
    except PackageError as error:
        sys.exit(f"make package: {error}")
