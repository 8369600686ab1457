"""Build the image without an engine: by buildah, on a base from the registry or from Debian's own packages.

Run: python -m deploy.image.build [--variant cpu|cuda] [--tag NAME]

All that it makes lies in .cache/image; where nothing has changed since the last build, it says so and ends.
`buildah --root .cache/image/storage --runroot .cache/image/run push TAG ...` brings the image elsewhere.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "image"
WHEELS = CACHE / "wheels"
VARIANTS = ("cpu", "cuda")
INPUTS = (
    "Dockerfile",
    ".dockerignore",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "deploy/locked.txt",
    "deploy/image/build.py",
    "deploy/image/finish.sh",
    "client",
    "server",
)
_BASE = "trimtab-base"
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
_MOUNTED_WHEELS = "/mnt"  # is there in every base, so that mounting leaves nothing behind


class BuildError(Exception):
    """The image can't be built; the message says why."""


@dataclass(frozen=True)
class Built:
    """What a build came to, as it is kept for the next one."""

    inputs: str
    """The digest of all that went in."""
    tag: str
    size: str
    config: dict[str, Any]
    """User, Env, Entrypoint, Healthcheck and so on, as Docker names them."""


def buildah(*arguments: str) -> list[str]:
    """The command line of buildah on our own storage."""
    found = shutil.which("buildah")
    if found is None:
        raise BuildError("buildah is not here: make tools")
    return [found, "--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run"), *arguments]


def apart() -> list[str]:
    """Before a command of root's: its mounts are in a namespace of their own, and gone with it. Others have none."""
    return ["unshare", "--mount", "--propagation=private"] if os.geteuid() == 0 else []


def container(variant: str) -> str:
    """The name of the container in storage that has the image's root file system."""
    return f"trimtab-{variant}"


def build(variant: str = "cpu", tag: str | None = None) -> Built:
    """Build the image where what is there is not of these inputs.

    Raises:
        BuildError: a tool is missing or has failed; it has said why on standard error.
    """
    tag = tag or f"trimtab:{variant}"
    with _one_at_a_time():
        inputs, kept = _inputs(variant), CACHE / f"{variant}.json"
        if kept.exists() and (last := Built(**json.loads(kept.read_text()))).inputs == inputs and last.tag == tag:
            _say(f"up to date: nothing has changed since {tag} was built")
            return last
        kept.unlink(missing_ok=True)
        _run(*_buildah("rm", container(variant)), quiet=True, check=False)
        base = _base()
        settings = {"PYTHON_IMAGE": base, "VARIANT": variant, **_labels(), **_pip_settings(variant, base)}
        _say(f"building {tag} (some minutes)")
        arguments = [f"--build-arg={name}={value}" for name, value in settings.items()]
        # Of Docker's format, since the other has no HEALTHCHECK
        options = ("--isolation=chroot", "--layers=false", "--format=docker")
        _run(
            *_buildah("bud", *options, f"--volume={WHEELS}:{_MOUNTED_WHEELS}:ro", *arguments, f"--tag={tag}", str(ROOT))
        )
        _run(*_buildah("rmi", "--prune", "--force"), quiet=True)
        _run(*_buildah("from", "--pull-never", f"--name={container(variant)}", tag), quiet=True)
        built = Built(inputs, tag, _size(tag), _config(tag))
        kept.write_text(json.dumps(asdict(built)))
        return built


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    WHEELS.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _inputs(variant: str) -> str:
    """A digest of everything that goes into the image."""
    digest = hashlib.sha256(json.dumps([variant, _labels()]).encode())
    for path in sorted(path for name in INPUTS for path in [ROOT / name, *(ROOT / name).rglob("*")]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _labels() -> dict[str, str]:
    """The version, and the last commit that changed what goes in: not each commit makes another image."""
    text = (ROOT / "client" / "trimtab" / "version.py").read_text()
    found = re.search(r'__version__ = "(.+)"', text)
    if found is None:
        raise BuildError("client/trimtab/version.py has no version")
    revision, _, created = _git("log", "-1", "--format=%H %cI").partition(" ")
    changed = "-modified" if _git("status", "--porcelain") else ""
    return {"VERSION": found[1], "REVISION": (revision or "unknown") + changed, "CREATED": created or "unknown"}


def _git(*arguments: str) -> str:
    """What git says about what goes in; nothing outside a repository."""
    command = ["git", "-C", str(ROOT), *arguments, "--", *INPUTS]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603


def _base() -> str:
    """The Dockerfile's own base where it can be had, else one of Debian's packages, of this machine's release."""
    found = re.search(r"^ARG PYTHON_IMAGE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None  # noqa: S101  # our own Dockerfile
    if _run(*_buildah("pull", "--quiet", found[1]), quiet=True, check=False) == 0:
        _say(f"base: {found[1]}")
        return found[1]
    base = f"localhost/{_BASE}:{platform.freedesktop_os_release()['VERSION_CODENAME']}"
    if _run(*_buildah("inspect", "--type=image", base), quiet=True, check=False) != 0:
        _make_base(base)
    _say(f"base: {base}, since {found[1]} can't be had from here")
    return base


def _make_base(base: str) -> None:
    release = base.partition(":")[2]
    _say(f"base: making one of Debian {release} (half a minute)")
    archive = CACHE / "base.tar"
    options = ["--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
    options += [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    _run("mmdebstrap", *options, release, str(archive), quiet=True)
    try:
        scratch = _output(*_buildah("from", "scratch"))
        _run(*_buildah("add", "--quiet", scratch, str(archive), "/"), quiet=True)
        _run(*_buildah("commit", "--quiet", "--rm", scratch, base), quiet=True)
    finally:
        archive.unlink(missing_ok=True)


def _pip_settings(variant: str, base: str) -> dict[str, str]:
    """What the builder's pip is told: where torch's wheel lies, whose certificates to trust. Nothing else of ours."""
    settings = {}
    trusted = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    if trusted:  # this machine may reach the network through an authority of its own
        shutil.copyfile(trusted, WHEELS / "ca.pem")
        settings["PIP_CERT"] = f"{_MOUNTED_WHEELS}/ca.pem"
    if variant == "cpu":
        settings["PIP_FIND_LINKS"] = _MOUNTED_WHEELS
        _download_torch(base)
    return settings


def _download_torch(base: str) -> None:
    """The wheel of torch's CPU build for the base's Python, from wherever this machine's pip has it."""
    probe = _output(*_buildah("from", base))
    version = _output(*_buildah("run", "--isolation=chroot", probe, "python3", "--version")).split()[1]
    _run(*_buildah("rm", probe), quiet=True)
    locked = (ROOT / "deploy" / "locked.txt").read_text().splitlines()
    wanted = next(line for line in locked if line.startswith("torch==")) + "+cpu"
    _say(f"wheel: {wanted} for Python {version}")
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={version}", f"--dest={WHEELS}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    if _run(*pip, *options, wanted, quiet=True, check=False) != 0:
        raise BuildError(f"pip finds no {wanted} for Python {version}: name an index that has it, PIP_EXTRA_INDEX_URL=")


def _size(tag: str) -> str:
    (image,) = json.loads(_output(*_buildah("images", "--json", tag)))
    return str(image["size"])


def _config(tag: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(_output(*_buildah("inspect", "--type=image", tag)))["Docker"]["config"]
    return config


def _buildah(*arguments: str) -> list[str]:
    return [*apart(), *buildah(*arguments)]


def _output(*command: str) -> str:
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if result.returncode != 0:
        raise BuildError(f"{shlex.join(command)} ended with {result.returncode}")
    return result.stdout.strip()


def _run(*command: str, quiet: bool = False, check: bool = True) -> int:
    """Run it, its output on standard error: all of it as it comes, or with `quiet` only where it has failed."""
    output = subprocess.PIPE if quiet else sys.stderr.fileno()
    result = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)  # noqa: S603
    if check and result.returncode != 0:
        if quiet:
            sys.stderr.write(result.stdout.decode(errors="replace"))
        raise BuildError(f"{shlex.join(command)} ended with {result.returncode}")
    return result.returncode


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="cpu")
    parser.add_argument("--tag", help="the image's name (default: trimtab:VARIANT)")
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    try:
        built = build(options.variant, options.tag)
    except BuildError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    print(f"{built.tag}: {built.size}, in {time.monotonic() - begin:.0f} s; run it with python -m deploy.image.run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
