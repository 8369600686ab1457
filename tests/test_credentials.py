"""The client's side of access: what it takes, what it never sends, and what the command says when it goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import trimtab
from tests.command import failed, ok, run
from tests.secure import OTHER_TOKEN, TOKEN, Certificates, digest
from trimtab.cli.server_process import ServerProcess, running_server
from trimtab.client import Caller
from trimtab.credentials import Credentials, is_local
from trimtab.v1 import placement_pb2 as pb


@pytest.mark.parametrize(
    ("target", "is_here"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.9.1:1", True),
        ("localhost:50051", True),
        ("[::1]:50051", True),
        ("local", True),
        ("unix:/run/trimtab", True),
        ("unix:///run/trimtab", True),
        ("unix-abstract:trimtab", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("ipv6:[::1]:1", True),
        ("dns:localhost:1", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("10.0.0.1:50051", False),
        ("0.0.0.0:50051", False),
        ("placement:50051", False),
        ("localhost.example.org:1", False),
        ("dns://127.0.0.1/placement:1", False),
        ("127.0.0.1.example.org:1", False),
        ("unixes:1", False),
        ("xds:///localhost", False),
    ],
)
def test_a_token_is_sent_where_none_can_read_it(target: str, is_here: bool) -> None:
    """Without TLS to this machine alone; what is not certain is not here."""
    assert is_local(target) is is_here
    if is_here:
        assert Credentials(target, token=TOKEN).metadata() == (("authorization", f"Bearer {TOKEN}"),)
        return
    with pytest.raises(trimtab.InvalidArgumentError) as caught:
        Caller(target, token=TOKEN)
    assert str(caught.value) == (
        f"token: is sent over TLS or to this machine alone, or others could read it on its way to {target}: turn TLS"
        " on, by tls or ca"
    )
    assert Caller(target, token=TOKEN, tls=True).call_arguments(pb.DescribeRequest(), None)["metadata"]


def test_a_token_in_the_clear_takes_no_proxy() -> None:
    """Even what is for this machine would go to the proxy that the environment names."""
    assert ("grpc.enable_http_proxy", 0) in Caller("localhost:1", token=TOKEN)._options
    assert ("grpc.enable_http_proxy", 0) not in Caller("localhost:1")._options


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "tökén", 7, b"bytes"])
def test_what_can_not_be_a_token_is_not_sent(token: Any) -> None:
    """And the message does not show it."""
    for given in token, lambda: token:
        with pytest.raises(trimtab.InvalidArgumentError) as caught:
            Caller("localhost:1", token=given).call_arguments(pb.DescribeRequest(), None)
        assert str(caught.value) == "token: must be printable ASCII characters without spaces"


def test_certificates_that_are_of_no_use_are_named(tmp_path: Path) -> None:
    """The argument, the file and the rule."""
    missing, wrong = tmp_path / "missing.pem", tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for arguments, message in (
        ({"cert": b"-----BEGIN X"}, "cert: cert and key belong together: give both"),
        ({"key": b"-----BEGIN X"}, "key: cert and key belong together: give both"),
        ({"ca": missing}, f"ca: {missing} can't be read: No such file or directory"),
        ({"ca": str(wrong)}, f"ca: must be in PEM form, {wrong} is not"),
        ({"ca": b"no certificate"}, "ca: must be in PEM form, these bytes are not"),
    ):
        with pytest.raises(trimtab.InvalidArgumentError) as caught:
            Credentials("placement:1", **arguments)
        assert str(caught.value) == message


def test_certificates_mean_tls() -> None:
    """Nothing that is given for TLS is left unused."""
    pem = b"-----BEGIN X"
    assert Credentials("h:1", ca=pem).channel_credentials is not None
    assert Credentials("h:1", cert=pem, key=pem).channel_credentials is not None
    assert Credentials("h:1", server_name="h").channel_credentials is not None
    assert Credentials("h:1").channel_credentials is None


def test_several_addresses_go_by_the_name_of_the_server(secure: ServerProcess, folder: Path) -> None:
    """A list of addresses is no name that a certificate could have; it is given."""
    target = f"ipv4:{secure.listen},{secure.listen}"
    known = {"ca": folder / "ca.pem", "token": TOKEN}
    with trimtab.Client(target, server_name="localhost", **known) as client:
        assert client.describe().server_version
    for name in (None, "another"):
        with (
            trimtab.Client(target, server_name=name, **known) as client,
            pytest.raises(trimtab.UnavailableError, match="Hostname Verification Check failed"),
        ):
            client.describe(timeout=20)


def test_the_local_target_needs_none_of_it() -> None:
    """Nothing is sent anywhere."""
    with trimtab.Client("local", token=TOKEN) as client:
        assert client.describe().server_version


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where certificates, tokens and the callers file lie."""
    folder = tmp_path_factory.mktemp("secure")
    certificates = Certificates(folder)
    (folder / "ca.pem").write_bytes(certificates.trusted)
    (folder / "callers").write_text(f"ops {digest(TOKEN)} *\nviewer {digest(OTHER_TOKEN)} Describe\n")
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "other").write_text(OTHER_TOKEN)
    (folder / "wrong").write_text("unknown")
    (folder / "words").write_text("two words")
    (folder / "bytes").write_bytes(b"\xff")
    (folder / "loads.json").write_text('{"logical_count": [[1, 2, 3, 4]]}')
    return folder


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[ServerProcess]:
    """A server with TLS and a callers file."""
    keys = f"--tls-cert={folder / 'server.pem'}", f"--tls-key={folder / 'server.key'}"
    with running_server(*keys, f"--callers-file={folder / 'callers'}") as process:
        yield process


def test_the_command_calls_with_a_token_over_tls(secure: ServerProcess, folder: Path) -> None:
    """Every command that has a server to ask."""
    access = ("--target", secure.listen, "--ca", folder / "ca.pem", "--token-file", folder / "token")
    loads = folder / "loads.json"
    assert "solver cpu" in ok("describe", *access)
    assert "2 packs of 2" in ok("pack", loads, "--packs", 2, *access)
    assert "2 GPUs" in ok("rebalance", loads, "--gpus", 2, "--replicas", 4, *access)
    assert "budgeted" in ok("replay", loads, loads, loads, "--gpus", 2, "--replicas", 4, *access)


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        (
            ("--ca", "ca.pem", "--token-file", "wrong"),
            3,
            (
                "does not know you (the token is not one of those that this server takes); give your token with"
                " --token-file, or your certificate with --cert and --key"
            ),
        ),
        (("--ca", "ca.pem"), 3, "does not know you (who calls?"),
        (
            ("--ca", "ca.pem", "--token-file", "other"),
            3,
            "does not let you (viewer may not call Pack: the server's callers file says what it may); ask those who",
        ),
        (("--tls",), 3, "its certificate is not one to trust: name who signed it with --ca"),
        ((), 3, "something listens there and hung up: it may want TLS (--tls or --ca), or a certificate (--cert)"),
        (("--ca", "callers"), 2, "--ca: must be in PEM form, "),
        (("--ca", "none"), 2, "can't be read: No such file or directory"),
        (("--cert", "server.pem"), 2, "--cert: cert and key belong together: give both"),
        (("--tls", "--token-file", "none"), 2, "can't be read: No such file or directory"),
        (("--tls", "--token-file", "words"), 2, "--token-file: must be printable ASCII characters without spaces"),
        (("--tls", "--token-file", "bytes"), 2, "must hold a token and nothing else"),
    ],
)
def test_the_command_says_what_is_wrong(
    secure: ServerProcess, folder: Path, options: tuple[str, ...], exit_code: int, words: str
) -> None:
    """And what to do; a token is not shown."""
    given = [option if option.startswith("--") else folder / option for option in options]
    result = run("pack", folder / "loads.json", "--packs", 2, "--target", secure.listen, "--timeout", 10, *given)
    line = failed(result, exit_code)
    assert words in line
    assert TOKEN not in line


def test_the_command_says_that_a_server_has_no_tls(server: ServerProcess, folder: Path) -> None:
    """Instead of OpenSSL's words alone."""
    line = failed(run("describe", "--target", server.listen, "--ca", folder / "ca.pem", "--timeout", 10), 3)
    assert "it does not speak TLS: leave out --tls, --ca, --cert and --key if that is meant to be so" in line


def test_the_command_says_that_a_certificate_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is to be called as its certificate says; these are gRPC's words for it."""

    def describe(_: trimtab.Client, **__: Any) -> None:
        raise trimtab.UnavailableError("check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.")

    monkeypatch.setattr(trimtab.Client, "describe", describe)
    line = failed(run("describe", "--target", "x:1", "--tls"), 3)
    assert "its certificate has another name: say it as there by --target, or by --server-name" in line
