"""The exact versions that a server is tested and shipped with, and whether any of them is known to be vulnerable.

Run: python deploy/locked.py write | check | audit

`write` makes locked.txt of what is installed, `check` says where what is installed differs, `audit` asks pip-audit
about the list. Its data is on the network: where that can't be reached, the list is only checked, and that is said.
Ends with 1 where something differs or is vulnerable.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

LOCKED = Path(__file__).with_name("locked.txt")
_HEAD = "# What a server is tested and shipped with; made by `make lock`.\n"


def closure(name: str, extras: frozenset[str], found: dict[str, str]) -> dict[str, str]:
    """Every distribution that this one needs here, with its version, into `found`."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            continue
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if key not in found:
            found[key] = distribution(key).version.partition("+")[0]  # a local build has the version of the public one
            closure(key, frozenset(requirement.extras), found)
    return found


def installed() -> dict[str, str]:
    """What a server needs, as installed here."""
    return dict(sorted(closure("trimtab", frozenset({"", "server", "otel"}), {}).items()))


def locked() -> dict[str, str]:
    """The list."""
    lines = (line.strip() for line in LOCKED.read_text().splitlines())
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def differences() -> list[str]:
    """Where what is installed is not what the list says, a line each."""
    here, wanted = installed(), locked()
    names = sorted(here.keys() | wanted.keys())
    return [
        f"{name}: installed {here.get(name, 'not')}, locked {wanted.get(name, 'not')}"
        for name in names
        if here.get(name) != wanted.get(name)
    ]


def audit() -> str | None:
    """What pip-audit finds in the list, nothing where it finds nothing; None where its data can't be had."""
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off"]
    result = subprocess.run(  # noqa: S603  # our own list
        [*command, f"--requirement={LOCKED}"], capture_output=True, text=True, check=False
    )
    said = result.stdout + result.stderr
    if re.search(r"^Found \d+ known vulnerabilit", said, re.MULTILINE):
        return said
    return None if result.returncode or "could not be audited" in said else ""


def main() -> int:
    """Do what is asked; 1 where something is wrong."""
    what = sys.argv[1] if len(sys.argv) == 2 else ""  # noqa: PLR2004  # the command and its one argument
    if what == "write":
        LOCKED.write_text(_HEAD + "".join(f"{name}=={version}\n" for name, version in installed().items()))
        print(f"wrote {len(locked())} versions to {LOCKED}")
        return 0
    if what not in {"check", "audit"}:
        sys.exit(__doc__)
    differ = differences()
    print("\n".join(differ) or f"what is installed is what {LOCKED.name} lists: {len(locked())} packages")
    if what == "check":
        return bool(differ)
    found = audit()
    if found is None:
        print("NOT AUDITED: the data of pip-audit can't be reached from here; run this where it can")
        return bool(differ)
    print(found or "no known vulnerabilities")
    return bool(found or differ)


if __name__ == "__main__":
    sys.exit(main())
