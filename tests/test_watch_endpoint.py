"""The address that `trimtab watch` asks: what is new is read once, and nothing it does can hold or fill the watcher."""

import gzip
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from tests.test_watch_sources import Reader
from tests.watch_parts import load_of, read
from trimtab.watch.endpoint import Endpoint

Answer = Callable[[BaseHTTPRequestHandler], None]
MOST = 4096


class Served:
    """A server that answers as the test says, and remembers what it was asked."""

    def __init__(self, authority: trustme.CA | None = None) -> None:
        self.answers: list[Answer] = []
        self.asked: list[dict[str, str]] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served.asked.append({"path": self.path, **{key.lower(): value for key, value in self.headers.items()}})
                self.close_connection = True
                served.answers.pop(0)(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        if authority is not None:
            self.scheme = "https"
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def reader(self, path: str = "/loads", timeout: float = 5.0) -> Reader:
        url = urlsplit(f"{self.scheme}://127.0.0.1:{self.http.server_port}{path}")
        return Reader(Endpoint(url, read, timeout=timeout, most_bytes=MOST))

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.close()


def body_of(number: int) -> bytes:
    return json.dumps({"logical_count": load_of(number).tolist()}).encode()


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """A whole answer; the names of headers are written with underscores."""

    def say(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return say


def test_a_body_is_read_once_by_its_tag(served: Served) -> None:
    """What the answer said of itself is asked by the next time, also by a watcher that was started again."""
    served.answers = [
        answer(200, body_of(1), ETag='"a"', Last_Modified="Wed, 01 Jan 2025 00:00:00 GMT"),
        answer(304),
        answer(200, body_of(2)),
        answer(200, body_of(3)),
    ]
    reader = served.reader("/loads?secret=1")
    assert reader.look() == [[100]]
    assert reader.taken[0].name == f"http://127.0.0.1:{served.http.server_port}/loads"
    again = served.reader("/loads?secret=1")
    again.position = reader.position
    assert again.look() == []
    assert again.look() == [[200]]
    assert again.look() == [[300]]
    asked = [(each.get("if-none-match"), each.get("if-modified-since")) for each in served.asked]
    assert asked == [(None, None), *[('"a"', "Wed, 01 Jan 2025 00:00:00 GMT")] * 2, (None, None)]
    assert {each["path"] for each in served.asked} == {"/loads?secret=1"}


def test_the_same_body_is_the_same_window(served: Served) -> None:
    """Where a server says nothing of its bodies, their bytes tell."""
    served.answers = [answer(200, body_of(1)), answer(200, body_of(1)), answer(200, body_of(2))]
    reader = served.reader()
    assert [reader.look() for _ in range(3)] == [[[100]], [], [[200]]]


def test_a_body_that_is_no_loads_is_told_once(served: Served) -> None:
    """And not again, as long as it is the same."""
    served.answers = [answer(200, b"<html>"), answer(200, b"<html>"), answer(200, b"")]
    reader = served.reader()
    assert [reader.look() for _ in range(3)] == [["unreadable"], [], ["unreadable"]]


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A body that never ends, a byte at a time."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"[")
            threading.Event().wait(0.01)
    except OSError:
        pass


def silent(handler: BaseHTTPRequestHandler) -> None:
    """No answer, until the client goes."""
    handler.rfile.read(1)


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Less than was said."""
    answer(200, body_of(1), Content_Length="1000")(handler)


WRONG = [
    (answer(503), "answers 503 Service Unavailable"),
    (answer(302, Location="file:///etc/passwd"), "answers 302 Found and names file:///etc/passwd"),
    (answer(200, b"x" * (MOST + 1)), "answers with more than 4,096 bytes, which are not read"),
    (answer(200, gzip.compress(b"[]"), Content_Encoding="gzip"), "answers with content encoding gzip, which was not"),
    (drip, "has not answered in full within 0.2 s"),
    (silent, "has not answered in full within 0.2 s"),
    (cut, "can't be asked (IncompleteRead"),
    (lambda handler: handler.wfile.write(b"SSH-2.0\r\n"), "can't be asked (SSH-2.0"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=[words[:30] for _, words in WRONG])
def test_whatever_it_answers_the_watcher_goes_on(served: Served, wrong: Answer, words: str) -> None:
    """It is a failure of the source, in words; the next good answer is read."""
    served.answers = [wrong, answer(200, body_of(1))]
    reader = served.reader(timeout=0.2 if wrong in {drip, silent} else 5.0)
    assert reader.look() == ["source"]
    assert str(reader.taken[0].failure and reader.taken[0].failure[1]).startswith(words)
    assert reader.position == {}
    assert served.reader().look() == [[100]]


def test_an_address_that_nobody_answers_at_is_told() -> None:
    """With the reason of the system."""
    reader = Reader(Endpoint(urlsplit("http://127.0.0.1:1/"), read, timeout=5.0, most_bytes=MOST))
    assert reader.look() == ["source"]
    assert reader.taken[0].failure == ("source", "can't be asked (Connection refused)")


def test_https_asks_for_a_certificate_to_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authorities are the system's: one of them is believed, any other is not."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    served = Served(authority)
    try:
        served.answers = [answer(200, body_of(1))]
        stranger = served.reader()
        assert stranger.look() == ["source"]
        assert "certificate" in str(stranger.taken[0].failure)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert served.reader().look() == [[100]]
    finally:
        served.close()
