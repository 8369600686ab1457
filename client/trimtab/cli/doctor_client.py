"""The client itself: what is installed, whether its versions fit, and whether calls would go by a proxy."""

from __future__ import annotations

import ipaddress
import operator
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from urllib.parse import urlsplit

from trimtab.cli.doctor_environment import first_set
from trimtab.cli.doctor_findings import Finding, ok, skipped, warning, wrong
from trimtab.version import __version__

_EXTRAS = {
    "cli": "this command and replay's --plot",
    "server": "--target local, .pt files and trimtab-server",
    "cuda": "packing on GPUs by Triton",
    "otel": "traces of trimtab-server",
}
"""What each extra is for."""
_REQUIREMENT = re.compile(r"([\w.-]+)\s*\(?([^;()]*)\)?\s*(?:;(.*))?")
_EXTRA = re.compile(r"extra == [\"']([\w-]+)[\"']")
_RULE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([\d.]+)\s*")
_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS = ("no_grpc_proxy", "no_proxy")
"""The variables that gRPC reads, in lower case alone; the first that is set counts, even an empty one."""


@dataclass(frozen=True)
class Requirement:
    """One distribution that trimtab needs, by itself or for an extra."""

    name: str
    rules: str
    """As `>=1.24,<3`."""
    extra: str | None

    @property
    def version(self) -> str | None:
        """What is installed; None: nothing."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None

    @property
    def fits(self) -> bool:
        """Whether what is installed is what is needed."""
        return self.version is not None and fits(self.version, self.rules)


def fits(version: str, rules: str) -> bool:
    """Whether a version keeps all rules; what comes after its numbers counts for nothing."""
    given = _numbers(version)
    found = [_RULE.fullmatch(rule) for rule in rules.split(",") if rule.strip()]
    return all(_COMPARE[rule[1]](given, _numbers(rule[2])) for rule in found if rule)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = re.match(r"[\d.]*", version)
    found = [int(number) for number in numbers[0].split(".") if number] if numbers else []
    while found and not found[-1]:  # 1.0 is 1
        found.pop()
    return tuple(found)


def requirements() -> list[Requirement] | None:
    """What the installed package says that it needs; None where it was not installed as one."""
    try:
        lines = metadata.requires("trimtab") or []
    except metadata.PackageNotFoundError:
        return None
    found = []
    for line in lines:
        parts = _REQUIREMENT.fullmatch(line)
        extra = _EXTRA.search(line)
        if parts and (extra is None or extra[1] in _EXTRAS):
            found.append(Requirement(parts[1], parts[2].strip(), extra[1] if extra else None))
    return found


def check_client() -> Iterator[Finding]:
    """What runs here, against what trimtab says that it needs."""
    python = platform.python_version()
    needed = requirements()
    if needed is None:
        yield ok("trimtab", f"{__version__} on Python {python}")
        yield skipped("libraries", "trimtab runs from its source, so nothing says which versions it needs")
        return
    rules = metadata.metadata("trimtab")["Requires-Python"] or ""
    yield (
        ok("trimtab", f"{__version__} on Python {python}")
        if fits(python, rules)
        else wrong("trimtab", f"{__version__} on Python {python}", f"it needs Python {rules}")
    )
    yield _check_libraries([each for each in needed if each.extra is None])
    yield _check_extras([each for each in needed if each.extra is not None])


def _check_libraries(needed: list[Requirement]) -> Finding:
    found = ", ".join(f"{each.name} {each.version or 'is not there'}" for each in needed)
    broken = [each for each in needed if not each.fits]
    return wrong("libraries", found, _install(broken)) if broken else ok("libraries", found)


def _install(broken: list[Requirement]) -> str:
    return "pip install " + " ".join(f"'{each.name}{each.rules}'" for each in broken)


def _check_extras(needed: list[Requirement]) -> Finding:
    here, absent, broken = [], [], []
    for extra, purpose in _EXTRAS.items():
        members = [each for each in needed if each.extra == extra]
        missing = [each.name for each in members if each.version is None]
        broken += [each for each in members if each.version is not None and not each.fits]
        if missing:
            absent.append(f"{extra} ({purpose}; {', '.join(missing)} missing)")
        else:
            here.append(extra)
    found = f"whole: {', '.join(here) or 'none'}" + (f"; not whole: {', '.join(absent)}" if absent else "")
    if broken:
        versions = ", ".join(f"{each.name} {each.version}" for each in broken)
        return warning("extras", f"{found}; of a version that is not meant: {versions}", _install(broken))
    return ok("extras", found)


def check_proxy(hosts: list[str], *, is_direct: bool) -> Finding:
    """Whether gRPC would reach these hosts by a proxy that the environment names; `is_direct` never does."""
    name, value = first_set(*_PROXIES)
    url = urlsplit(value)
    if url.scheme != "http" or not url.hostname:
        return ok("proxy", "none in the environment that gRPC would take")
    proxy = f"the proxy {url.hostname}:{url.port or 80} of {name}"
    caught = [host for host in hosts if not _is_excepted(host)]
    if is_direct or not caught:
        reason = "a token without TLS is sent to this machine alone" if is_direct else "as no_proxy says"
        return ok("proxy", f"calls do not go by {proxy}: {reason}")
    advice = f"where that is not meant: export no_grpc_proxy={','.join(caught)}"
    return warning("proxy", f"calls to {', '.join(caught)} go by {proxy}, the checks of port and TLS do not", advice)


def _is_excepted(host: str) -> bool:
    """As gRPC has it: by the end of the name, or by a network; `*` stands for nothing."""
    entries = [entry.strip() for entry in first_set(*_EXCEPTIONS)[1].split(",") if entry.strip()]
    return any(host.lower().endswith(entry.lower()) or _is_within(host, entry) for entry in entries)


def _is_within(host: str, network: str) -> bool:
    try:
        return "/" in network and ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
