"""Requests: a span of a file arrives whole and right, or the request is repeated."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tesela.core.errors import NetworkError
from tesela.io.http import RetryPolicy, Web

BODY = bytes(range(256)) * 64


@contextmanager
def serving(fault: str, times: int = 1) -> Iterator[str]:
    """A server that fails the first `times` requests."""
    asked = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal asked
            asked += 1
            wrong = fault if asked <= times else ""
            begin, end = 0, len(BODY) - 1
            if "Range" in self.headers:
                begin, end = (int(part) for part in self.headers["Range"][6:].split("-"))
            if wrong == "another part":
                begin, end = 0, end - begin
            part = BODY[begin : end + 1]
            if fault == "packed":
                part = gzip.compress(part)
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Range", f"bytes {begin}-{end}/{len(BODY)}")
            self.send_header("Content-Length", str(len(part)))
            if fault == "packed":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            if wrong == "cut":
                self.wfile.write(part[: len(part) // 2])
                self.close_connection = True
                return
            try:
                for at in range(0, len(part), 64):
                    self.wfile.write(part[at : at + 64])
                    if wrong == "trickle":
                        self.wfile.flush()
                        time.sleep(0.05)
            except OSError:  # the client went away
                return

        def log_message(self, *given: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.tif"
        server.shutdown()


def make_web(tries: int = 3) -> Web:
    return Web(patience=RetryPolicy(tries=tries, timeout_s=0.4, first_wait_s=0.01))


@pytest.mark.parametrize("fault", ["cut", "another part", "trickle"])
def test_what_comes_wrong_is_asked_for_again(fault: str) -> None:
    web = make_web()
    with serving(fault) as url:
        begun = time.monotonic()
        assert web.get(url, span=(1000, 9000)) == BODY[1000:9000]
        assert time.monotonic() - begun < 4  # 125 pieces of 0.05 s would take over 6 s
    assert web.retries == 1


def test_a_server_that_always_sends_another_part_is_reported() -> None:
    with (
        serving("another part", times=99) as url,
        pytest.raises(NetworkError, match=r"another part of the file \(bytes 0-7999/16384\)"),
    ):
        make_web(2).get(url, span=(1000, 9000))


def test_a_packed_document_is_unpacked() -> None:
    with serving("packed") as url:
        assert make_web().get(url) == BODY
