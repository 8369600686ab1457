"""The callers file, tokens, and files that are read again when they change."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.secure import OTHER_TOKEN, TOKEN, digest, replace
from trimtab_server import callers
from trimtab_server.callers import Callers, RuleError, make_token, parse_callers, read_callers
from trimtab_server.watched import BrokenFileError, File, Watched

RPCS = ("Pack", "Rebalance", "Describe")
HASH = digest(TOKEN)


def parse(text: str, *, mutual_tls: bool = True) -> Callers:
    return Callers(parse_callers(text, RPCS, mutual_tls=mutual_tls))


def test_a_callers_file_says_who_may_what() -> None:
    """Comments, blank lines, several tokens of one caller, certificates."""
    found = parse(f"""
        # the controllers
        ops {HASH} *
        ops {digest("next")} Pack   # from May on

        viewer\tcertificate\tDescribe,Pack
    """)
    for token, rpcs in (TOKEN, frozenset(RPCS)), ("next", frozenset({"Pack"})):
        entry = found.by_token(token)
        assert entry is not None
        assert (entry.name, entry.rpcs) == ("ops", rpcs)
    assert [found.by_token(token) for token in ("unknown", "", "ü")] == [None] * 3
    viewer = found.by_certificate("viewer")
    assert viewer is not None
    assert viewer.rpcs == {"Describe", "Pack"}
    assert found.by_certificate("ops") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must list a caller: without one, nobody could call"),
        ("# nobody\n", "must list a caller: without one, nobody could call"),
        (f"ops {HASH}", "line 1: must be NAME CREDENTIAL RPCS, has 2 words"),
        (f"ops {HASH} Pack, Describe", "line 1: must be NAME CREDENTIAL RPCS, has 4 words"),
        (
            f"öps {HASH} *",
            "line 1: NAME must be 1 to 128 printable ASCII characters without spaces, the first not #",
        ),
        (
            f"{'x' * 129} {HASH} *",
            "line 1: NAME must be 1 to 128 printable ASCII characters without spaces, the first not #",
        ),
        (
            f"a {HASH} *\nops {TOKEN} *",
            "line 2: CREDENTIAL must be sha256: and 64 hexadecimal digits, or certificate",
        ),
        (
            f"ops {HASH[:-1]} *",
            "line 1: CREDENTIAL must be sha256: and 64 hexadecimal digits, or certificate",
        ),
        (f"\n\nops {HASH} Pak", "line 3: RPCS must be * or some of Pack,Rebalance,Describe, joined by commas"),
        (f"ops {HASH} Pack,", "line 1: RPCS must be * or some of Pack,Rebalance,Describe, joined by commas"),
        (f"ops {HASH} {TOKEN}", "line 1: RPCS must be * or some of Pack,Rebalance,Describe, joined by commas"),
        (f"ops {HASH} *\n#\nme {HASH.upper().replace('SHA', 'sha')} *", "line 3: this token stands in line 1 already"),
        ("ops certificate *\nops certificate Pack", "line 2: a certificate of this name stands in line 1 already"),
    ],
)
def test_a_mistake_in_a_callers_file_is_named_exactly(text: str, message: str) -> None:
    """Line and rule, and never what stands there: it may be a token."""
    with pytest.raises(RuleError) as caught:
        parse(text)
    assert str(caught.value) == message


def test_certificates_need_mutual_tls() -> None:
    """Without it no client shows one, and the line would never let anybody in."""
    with pytest.raises(RuleError) as caught:
        parse("ops certificate *", mutual_tls=False)
    assert str(caught.value) == "line 1: certificate needs --tls-client-ca, which says whose certificates count"


def test_a_callers_file_that_is_no_text_is_named() -> None:
    """With the setting and the path."""
    with pytest.raises(BrokenFileError) as caught:
        read_callers(File("--callers-file", Path("callers"), b"\xff"), RPCS, mutual_tls=False)
    assert str(caught.value) == "--callers-file callers: must be text in UTF-8"


@pytest.mark.parametrize("token", ["0", "4", "9", "unknown"])
def test_a_token_is_compared_with_all_that_there_are(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """As many comparisons, each in constant time, wherever the token stands: time tells nothing."""
    found = parse("\n".join(f"caller{i} {digest(str(i))} *" for i in range(10)))
    lengths: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        lengths.append((len(a), len(b)))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr(callers, "hmac", type("Counted", (), {"compare_digest": staticmethod(compare)}))
    entry = found.by_token(token)
    assert (entry is not None) == token.isdigit()
    assert lengths == [(32, 32)] * 10


def test_what_holds_secrets_does_not_show_them() -> None:
    """Not even when it is printed by mistake."""
    entries = parse_callers(f"ops {HASH} *", RPCS, mutual_tls=False)
    shown = repr(entries) + repr(File("--callers-file", Path("callers"), HASH.encode()))
    assert HASH.removeprefix("sha256:") not in shown
    assert str(entries[0].digest) not in shown


def test_a_new_token_is_let_in_by_its_line() -> None:
    """And is another each time."""
    token, line = make_token("ops")
    entry = parse(line).by_token(token)
    assert entry is not None
    assert (entry.name, entry.rpcs) == ("ops", frozenset(RPCS))
    assert token not in line
    assert make_token("ops")[0] != token
    assert len(token) >= 43  # 256 bits


class Watching:
    """A watched file, its time and its failures in the test's hand."""

    def __init__(self, path: Path) -> None:
        self.time = 0.0
        self.failures = self.reads = 0
        self.watched = Watched("callers", {"--callers-file": path}, self._make, lambda: self.time, self._failed)

    def _make(self, files: Sequence[File]) -> str:
        self.reads += 1
        content = files[0].content.decode()
        if content == "broken":
            raise files[0].broken("is broken")
        return content

    def _failed(self) -> None:
        self.failures += 1

    def later(self) -> str:
        """The value a second later."""
        self.time += 1.0
        return self.watched.current


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    """Replaced or written in place; looked at once a second, and read only when it changed."""
    path = tmp_path / "file"
    path.write_text("one")
    watching = Watching(path)
    assert [watching.later() for _ in range(5)] == ["one"] * 5
    assert watching.reads == 1
    replace(path, "two")
    watching.time += 0.9
    assert watching.watched.current == "one"
    assert watching.later() == "two"
    path.write_text("three")
    assert watching.later() == "three"
    assert (watching.reads, watching.failures) == (3, 0)


def test_links_are_followed(tmp_path: Path) -> None:
    """Kubernetes mounts a link to a folder that it swaps."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "data").symlink_to("one")
    (tmp_path / "file").symlink_to("data/file")
    watching = Watching(tmp_path / "file")
    assert watching.later() == "one"
    (tmp_path / "swap").symlink_to("two")
    (tmp_path / "swap").replace(tmp_path / "data")
    assert watching.later() == "two"


def test_a_file_that_breaks_keeps_its_old_value_and_is_counted_once(tmp_path: Path) -> None:
    """Broken or gone; what comes next is taken again."""
    path = tmp_path / "file"
    path.write_text("one")
    watching = Watching(path)
    replace(path, "broken")
    assert [watching.later() for _ in range(3)] == ["one"] * 3
    assert watching.failures == 1
    path.unlink()
    assert [watching.later() for _ in range(3)] == ["one"] * 3
    assert watching.failures == 2
    path.write_text("two")
    assert watching.later() == "two"
    assert watching.failures == 2


def test_a_file_that_is_broken_at_first_is_an_error(tmp_path: Path) -> None:
    """Which names the setting, the file and the reason."""
    path = tmp_path / "file"
    with pytest.raises(BrokenFileError) as caught:
        Watching(path)
    assert str(caught.value) == f"--callers-file {path}: can't be read: No such file or directory"
    path.write_text("broken")
    with pytest.raises(BrokenFileError) as caught:
        Watching(path)
    assert str(caught.value) == f"--callers-file {path}: is broken"


def test_an_unlisted_token_is_nobody_s() -> None:
    """Also where it is another caller's hash."""
    found = parse(f"ops {HASH} *\nviewer {digest(OTHER_TOKEN)} Describe")
    assert found.by_token(HASH) is None
    assert found.by_token(HASH.removeprefix("sha256:")) is None
