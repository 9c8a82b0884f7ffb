"""A server on loopback that acts as an image provider: catalogue search, byte ranges, signatures and faults."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

API = "/api/stac/v1"
"""Path of the catalogue; that of its tokens is `TOKENS`."""

TOKENS = "/api/sas/v1/token"

FaultKind = Literal["status", "truncate", "stall"]


@dataclass
class Fault:
    """A fault of requests whose path matches."""

    path: str
    """Regular expression that is searched in the path."""
    kind: FaultKind = "status"
    """A response with `status`, a body cut in half, or no response for `seconds`."""
    status: int = 500
    times: int = 1_000_000
    """How many requests fail before the rest succeed."""
    retry_after_s: float | None = None
    """Sent as Retry-After; earlier requests get the same response and count as `hasty`."""
    seconds: float = 30.0
    met: int = 0
    hasty: int = 0
    _until: float = 0.0

    def strikes(self, path: str) -> bool:
        """Whether this request fails."""
        if not re.search(self.path, path):
            return False
        now = time.monotonic()
        if now < self._until:
            self.hasty += 1
            return True
        if self.met >= self.times:
            return False
        self.met += 1
        if self.retry_after_s is not None:
            self._until = now + self.retry_after_s
        return True


class ProviderServer:
    """
    Serves a folder of `write_catalogue`; use it in a `with` block.

    ``address`` is the STAC API: landing page, ``/search`` by bounding box, dates and collections, in pages. Files
    are sent whole or by byte range. With `signed`, files need a token of ``/api/sas/v1/token``, valid until `expire`.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        faults: Sequence[Fault] = (),
        signed: bool = False,
        page: int = 100,
        delay_s: float = 0.0,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.faults = list(faults)
        self.signed = signed
        self.page = page
        self.delay_s = delay_s
        self.token = 1
        self.life_s = 3600.0
        self.requests: list[str] = []
        """Requested paths, in order."""
        self.lock = threading.Lock()
        self._server = _Threads(("127.0.0.1", 0), _handler(self))

    @property
    def base(self) -> str:
        """Address of the server itself."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def address(self) -> str:
        """Address of its STAC API."""
        return self.base + API

    def expire(self) -> None:
        """Invalidate all tokens sent so far."""
        self.token += 1

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def items(self) -> list[dict[str, Any]]:
        """Items of the folder, with addresses of this server."""
        items = []
        for path in sorted((self.folder / "items").glob("*.json")):
            item = json.loads(path.read_text(encoding="utf-8"))
            for asset in item["assets"].values():
                asset["href"] = f"{self.base}/{asset['href'].removeprefix('../')}"
            item["links"] = [{"rel": "self", "href": f"{self.address}/items/{item['id']}"}]
            items.append(item)
        return items


class _Threads(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # stalled requests end with the process

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: clients that give up are expected."""


def _handler(provider: ProviderServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(None)

        def do_HEAD(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self._answer(json.loads(self.rfile.read(length) or b"{}"))

        def _answer(self, body: dict[str, Any] | None) -> None:
            with provider.lock:
                provider.requests.append(self.path)
                fault = next((f for f in provider.faults if f.strikes(self.path)), None)
            if provider.delay_s:
                time.sleep(provider.delay_s)
            if fault is not None and fault.kind == "stall":
                time.sleep(fault.seconds)
            if fault is not None and fault.kind == "status":
                more = {} if fault.retry_after_s is None else {"Retry-After": f"{fault.retry_after_s:.0f}"}
                self._send(fault.status, b"no", more)
                return
            cut = fault is not None and fault.kind == "truncate"
            path = urlsplit(self.path).path
            if path.startswith((API, TOKENS)):
                document = _document(provider, path, body, parse_qs(urlsplit(self.path).query))
                if document is None:
                    self._send(404, b"{}")
                else:
                    self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"}, cut)
                return
            self._send_file(path, cut=cut)

        def _send_file(self, path: str, *, cut: bool) -> None:
            file = (provider.folder / path.lstrip("/")).resolve()
            if provider.folder not in file.parents or not file.is_file():
                self._send(404, b"no such file")
                return
            given = parse_qs(urlsplit(self.path).query).get("sig", [""])[0]
            if provider.signed and path.endswith((".tif", ".jp2")) and given != f"token{provider.token}":
                self._send(403, b"AuthenticationFailed")
                return
            size = file.stat().st_size
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if span is None:
                self._send(200, file.read_bytes(), {"Accept-Ranges": "bytes"}, cut)
                return
            first, last = int(span[1]), min(int(span[2] or size), size - 1)
            if first >= size:
                self._send(416, b"", {"Content-Range": f"bytes */{size}"})
                return
            with file.open("rb") as content:
                content.seek(first)
                body = content.read(last - first + 1)
            self._send(206, body, {"Content-Range": f"bytes {first}-{last}/{size}"}, cut)

        def _send(
            self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.close_connection = True

    return Handler


def _document(
    provider: ProviderServer, path: str, body: dict[str, Any] | None, query: dict[str, list[str]]
) -> dict[str, Any] | None:
    """Response of the API; None if it has no such path."""
    if path.startswith(TOKENS):
        until = datetime.now(UTC) + timedelta(seconds=provider.life_s)
        stamp = until.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"msft:expiry": stamp, "token": f"se={stamp}&sig=token{provider.token}"}
    if path in (API, f"{API}/"):
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "virtual",
            "description": "A provider on loopback",
            "conformsTo": [
                "https://api.stacspec.org/v1.0.0/core",
                "https://api.stacspec.org/v1.0.0/item-search",
            ],
            "links": [
                {"rel": "self", "href": provider.address},
                {"rel": "root", "href": provider.address},
                {
                    "rel": "search",
                    "href": f"{provider.address}/search",
                    "method": "POST",
                    "type": "application/geo+json",
                },
            ],
        }
    if path == f"{API}/search":
        request = body if body is not None else {key: values[0] for key, values in query.items()}
        return _search(provider, request)
    return None


def _search(provider: ProviderServer, request: dict[str, Any]) -> dict[str, Any]:
    west, south, east, north = request.get("bbox") or (-180, -90, 180, 90)
    first, last = (request.get("datetime") or "0000/9999").split("/")
    wanted = request.get("collections")
    matching = [
        item
        for item in provider.items()
        if item["bbox"][0] <= east
        and item["bbox"][2] >= west
        and item["bbox"][1] <= north
        and item["bbox"][3] >= south
        and first <= _moment(item) <= last
        and (not wanted or item["collection"] in wanted)
    ]
    start = int(request.get("token") or 0)
    page = matching[start : start + provider.page]
    links = []
    if start + provider.page < len(matching):
        body = {**request, "token": str(start + provider.page)}
        href = f"{provider.address}/search"
        links = [{"rel": "next", "href": href, "method": "POST", "body": body, "merge": False}]
    return {"type": "FeatureCollection", "features": page, "links": links}


def _moment(item: dict[str, Any]) -> str:
    return str(item["properties"]["datetime"] or item["properties"]["start_datetime"])
