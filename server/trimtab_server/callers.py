"""The callers file: who may call what, and how each proves who he is; and how a token for it is made."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from trimtab_server.caller_names import NAME_RULE, is_name
from trimtab_server.watched import File

_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
_CERTIFICATE = "certificate"
_ALL = "*"


@dataclass(frozen=True)
class Entry:
    """A line of the file."""

    line: int
    name: str
    digest: bytes | None = field(repr=False)
    """SHA-256 of the token; None: a client certificate of that name."""
    rpcs: frozenset[str]


class RuleError(ValueError):
    """A line breaks a rule; says which line and rule, and nothing of what stands there: it may be a token."""


class Callers:
    """All that a callers file lists."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._tokens = [(entry.digest, entry) for entry in entries if entry.digest is not None]
        self._certificates = {entry.name: entry for entry in entries if entry.digest is None}

    def by_token(self, token: str) -> Entry | None:
        """Whose token this is, compared with all there are: how long that takes tells nothing of how near it came."""
        digest = hashlib.sha256(token.encode()).digest()
        found = None
        for listed, entry in self._tokens:
            if hmac.compare_digest(listed, digest):
                found = entry
        return found

    def by_certificate(self, name: str) -> Entry | None:
        """Whose certificate this is; that it is genuine was seen when the connection was made."""
        return self._certificates.get(name)


def make_token(name: str) -> tuple[str, str]:
    """A fresh token for a caller, and the line that lists it."""
    token = secrets.token_urlsafe(32)
    return token, f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()} {_ALL}"


def read_callers(file: File, rpcs: Collection[str], *, mutual_tls: bool) -> Callers:
    """The callers that a file lists.

    Args:
        file: lines of NAME CREDENTIAL RPCS; `#` begins a comment.
        rpcs: the RPCs that there are.
        mutual_tls: whether clients have certificates.

    Raises:
        BrokenFileError: names the line and the rule.
    """
    try:
        return Callers(parse_callers(file.content.decode(), rpcs, mutual_tls=mutual_tls))
    except UnicodeDecodeError:
        raise file.broken("must be text in UTF-8") from None
    except RuleError as error:
        raise file.broken(str(error)) from None


def parse_callers(text: str, rpcs: Collection[str], *, mutual_tls: bool) -> list[Entry]:
    """The entries of a callers file.

    Raises:
        RuleError: names the line and the rule.
    """
    entries: list[Entry] = []
    first: dict[bytes | str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        entry = _entry(number, words, rpcs, mutual_tls=mutual_tls)
        before = first.setdefault(entry.name if entry.digest is None else entry.digest, number)
        if before != number:
            what = "this token" if entry.digest is not None else "a certificate of this name"
            raise RuleError(f"line {number}: {what} stands in line {before} already")
        entries.append(entry)
    if not entries:
        raise RuleError("must list a caller: without one, nobody could call")
    return entries


def _entry(number: int, words: list[str], rpcs: Collection[str], *, mutual_tls: bool) -> Entry:
    if "#" in (word[0] for word in words[3:4]):  # a comment behind the entry
        words = words[:3]
    if len(words) != 3:  # noqa: PLR2004  # as the message says
        raise RuleError(f"line {number}: must be NAME CREDENTIAL RPCS, has {len(words)} words")
    name, credential, allowed = words
    if not is_name(name):
        raise RuleError(f"line {number}: NAME {NAME_RULE}")
    digest = _HASH.fullmatch(credential)
    if digest is None and credential != _CERTIFICATE:
        raise RuleError(f"line {number}: CREDENTIAL must be sha256: and 64 hexadecimal digits, or {_CERTIFICATE}")
    if digest is None and not mutual_tls:
        raise RuleError(f"line {number}: {_CERTIFICATE} needs --tls-client-ca, which says whose certificates count")
    chosen = frozenset(rpcs if allowed == _ALL else allowed.split(","))
    if not chosen <= set(rpcs):
        raise RuleError(f"line {number}: RPCS must be {_ALL} or some of {','.join(rpcs)}, joined by commas")
    return Entry(number, name, bytes.fromhex(digest[1]) if digest else None, chosen)
