"""The local server of all pages, and its protection against other web sites."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from tesela.core.errors import InputError, TeselaError

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
"""Default address: only this machine can reach it."""

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def make_app(routes: Sequence[BaseRoute], *, host: str = LOOPBACK) -> Starlette:
    """
    Make the application of a page, protected against other web sites.

    The ``Host`` of a request must be this server (a site that points its own name at this machine is refused). A
    request that changes something must come from a page of this server (``Origin``). Nothing loads from other sites,
    and no other page can frame this one. Errors are returned as ``{"error": text}``.

    Parameters
    ----------
    host : str
        Address of the server. On loopback it accepts only loopback names; otherwise also numeric addresses and
        the name of the machine.
    """
    return Starlette(
        routes=list(routes),
        middleware=[Middleware(_Guard, local=is_loopback(host))],
        exception_handlers={TeselaError: _error_response, HTTPException: _http_error_response},
    )


def serve(
    app: Starlette,
    *,
    host: str = LOOPBACK,
    port: int = 8080,
    announce: Callable[[str], None] = lambda address: None,
) -> None:
    """
    Serve requests until interrupted (Ctrl+C).

    Parameters
    ----------
    port : int
        0 for any free port.
    announce : callable of str
        Called with the address of the page when the server is ready.

    Raises
    ------
    InputError
        If the port is in use, or the address does not belong to this machine.
    """
    import uvicorn

    with _listen(host, port) as listener:
        number = listener.getsockname()[1]
        shown = "localhost" if host in ("0.0.0.0", "::") else host
        announce(f"http://[{shown}]:{number}/" if ":" in shown else f"http://{shown}:{number}/")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none"
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def asset_routes(*names: str) -> list[Route]:
    """Routes ``/static/NAME`` for files of the package, read now; no request is mapped to a path."""
    folder = resources.files("tesela.web") / "static"
    return [
        Route(f"/static/{name}", _fixed((folder / name).read_bytes(), _TYPES[name.rsplit(".", 1)[1]]))
        for name in names
    ]


def render(template: str, values: Mapping[str, object]) -> HTMLResponse:
    """Render a template of the package; values are escaped."""
    return HTMLResponse(
        _environment().get_template(template).render(values), headers={"cache-control": "no-cache"}
    )


async def read_json(request: Request, *, limit_bytes: int = 1 << 16) -> dict[str, object]:
    """
    Read the JSON object of a request.

    Raises
    ------
    HTTPException
        415 if it is not sent as JSON (forms of other sites cannot do that), 413 if too long, 400 if not an object.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "Send JSON (content-type: application/json).")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise HTTPException(413, f"The request has more than {limit_bytes} bytes.")
    try:
        document = json.loads(body)
    except ValueError:
        raise HTTPException(400, "The request is not JSON.") from None
    if not isinstance(document, dict):
        raise HTTPException(400, "Send one JSON object.")
    return document


def is_loopback(host: str) -> bool:
    """
    Whether only this machine can reach an address.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Guard:
    """Refuses requests that other web sites could have caused, and adds security headers."""

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self.app = app
        self.local = local
        self.names = {"localhost", socket.gethostname().lower()} if not local else {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, text in _HEADERS.items():
                    headers[name] = text
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        responder = self.app if refusal is None else PlainTextResponse(f"{refusal}\n", 403)
        await responder(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not self._is_mine(host):
            return "Unknown host name. Use the address that the server printed."
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "Other sites cannot load from this server."
        if method in ("GET", "HEAD"):
            return None
        origin = urlsplit(headers.get("origin", ""))
        if origin.scheme not in ("http", "https") or origin.netloc.lower() != host.lower():
            return "Only a page of this server can change something."
        return None

    def _is_mine(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.local


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"The page cannot listen on {host}, port {port} ({error}). Choose another port (--port 0 for any free "
            "port), or an address of this machine (--host)."
        ) from None
    return listener


def _fixed(content: bytes, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return respond


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("tesela.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )


def _error_response(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def _http_error_response(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)
