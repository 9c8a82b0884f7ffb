"""Requests over HTTP that are retried with back-off, and checked to be whole."""

from __future__ import annotations

import email.utils
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from tesela.core.errors import InputError, NetworkError

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that may pass: the request is repeated."""

_REFUSED = frozenset({401, 403})
"""Statuses for a signature or key that is wrong or has expired."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for a server, and how often to ask again."""

    tries: int = 6
    timeout_s: float = 30.0
    """Limit for a connection and for the next bytes; a response of up to a megabyte may take twice as long."""
    first_wait_s: float = 1.0
    """Before the second try; doubled before each further one."""
    longest_wait_s: float = 120.0
    """A server that asks for a longer pause (Retry-After) is not waited for."""

    def deadline_s(self, size: int) -> float:
        """Seconds that a response of `size` bytes may take: a server that only trickles counts as stalled."""
        return self.timeout_s * (2 + size / 1e6)


class Signer(Protocol):
    """Makes requests that a server accepts; see `tesela.sources.signing`."""

    def sign(self, url: str) -> str:
        """Address to ask."""
        ...

    def renew(self, url: str) -> bool:
        """Whether a signature that the server refused was replaced by a new one."""
        ...


class Web:
    """
    Fetches documents and spans of files; one for many threads.

    Lost connections, stalls, truncated bodies and the statuses 408, 425, 429 and 5xx are tried again, with pauses that
    double and that respect ``Retry-After``. A refused signature is renewed once where the signer can. Proxies and
    certificates come from the usual environment variables.
    """

    def __init__(self, *, patience: RetryPolicy | None = None, signer: Signer | None = None) -> None:
        self.patience = patience or RetryPolicy()
        self.signer = signer
        self.retries = 0
        """Repeated requests so far."""
        self._sleep: Callable[[float], None] = time.sleep
        self._count = threading.Lock()
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_connections=16, pool_maxsize=32)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def get(self, url: str, *, span: tuple[int, int] | None = None) -> bytes:
        """
        Fetch a file, or the bytes `span` (first, stop) of it; fewer come only where the file ends.

        Raises
        ------
        InputError
            If the server has no such file, or serves no spans.
        NetworkError
            If it cannot be reached, keeps failing, or refuses the signature.
        """
        return self._ask("GET", url, body=None, span=span)

    def version(self, url: str) -> str:
        """What the server states of a file: its size, date and version (ETag); errors as `get`."""
        headers: dict[str, str] = {}
        self._ask("GET", url, body=None, span=(0, 1), headers=headers)
        size = headers.get("content-range", "").rpartition("/")[2]
        return "\0".join((size, headers.get("last-modified", ""), headers.get("etag", "")))

    def post(self, url: str, body: object) -> bytes:
        """Send a JSON document and return the response; errors as `get`."""
        return self._ask("POST", url, body=body, span=None)

    def address(self, url: str) -> str:
        """Address that the server accepts now: signed where that is needed."""
        return self.signer.sign(url) if self.signer else url

    def ask_again(self, url: str, attempt: int) -> None:
        """
        Wait until a server that failed before sends one byte of a file; errors as `get`.

        Parameters
        ----------
        attempt : int
            How often it failed before, from 0; the pause doubles each time.
        """
        with self._count:
            self.retries += 1
        if url.startswith("s3://"):
            self._pause(attempt, _TryAgain("failed"), url)
            return
        if attempt:
            self._pause(attempt - 1, _TryAgain("failed"), url)
        self.get(url, span=(0, 1))

    def _ask(
        self,
        method: str,
        url: str,
        *,
        body: object,
        span: tuple[int, int] | None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        """Content of a response; its headers are put into `headers`, with names in lower case."""
        reason, renewed = "", False
        for attempt in range(self.patience.tries):
            if attempt:
                with self._count:
                    self.retries += 1
            try:
                content = self._try(method, url, body=body, span=span, found=headers)
            except _TryAgain as again:
                reason = again.reason
                if attempt + 1 < self.patience.tries:
                    self._pause(attempt, again, url)
                continue
            except _Refused as refused:
                if self.signer is not None and not renewed and self.signer.renew(url):
                    renewed = True
                    reason = f"replied {refused.status} to the old signature"
                    continue
                raise NetworkError(_refusal(url, refused.status, signed=self.signer is not None)) from None
            return content
        raise NetworkError(
            f"{_bare(url)}: {reason}, {self.patience.tries} times in a row. Try again later: the same command "
            f"continues; --tries and --timeout set how long to try."
        )

    def _try(
        self,
        method: str,
        url: str,
        *,
        body: object,
        span: tuple[int, int] | None,
        found: dict[str, str] | None,
    ) -> bytes:
        headers = {"Accept-Encoding": "identity"} if span else {}
        sent = None if body is None else json.dumps(body).encode()
        if sent is not None:
            headers["Content-Type"] = "application/json"
        if span:
            headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        signed = self.signer.sign(url) if self.signer else url
        limit = (min(self.patience.timeout_s, 10.0), self.patience.timeout_s)
        try:
            with self._session.request(
                method, signed, data=sent, headers=headers, timeout=limit, stream=True
            ) as response:
                self._check_status(response, url, span)
                content = self._read(response, span)
                _check_length(response, content)
                if found is not None:
                    found.update({name.lower(): value for name, value in response.headers.items()})
                return content
        except requests.exceptions.ConnectTimeout as error:
            raise _TryAgain("no connection within the time limit") from error
        except requests.exceptions.Timeout as error:
            raise _TryAgain(f"no bytes for {self.patience.timeout_s:g} s") from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise _TryAgain("the response was cut short") from error
        except requests.exceptions.SSLError as error:
            raise NetworkError(f"{_bare(url)}: no secure connection ({_short(error)}).") from None
        except requests.exceptions.ConnectionError as error:
            if "NameResolution" in repr(error) or "getaddrinfo" in repr(error):
                raise NetworkError(
                    f"{urlsplit(url).netloc} cannot be found: is there a network? Without one, give local "
                    f"files: --catalogue FOLDER, or a catalog.json (docs/mosaic.md)."
                ) from None
            if "Read timed out" in repr(error):  # while the body came
                raise _TryAgain(f"no bytes for {self.patience.timeout_s:g} s") from error
            raise _TryAgain(f"no connection ({_short(error)})") from error
        except requests.exceptions.RequestException as error:
            raise InputError(f"{_bare(url)}: cannot be requested ({_short(error)}).") from None

    def _check_status(self, response: requests.Response, url: str, span: tuple[int, int] | None) -> None:
        status = response.status_code
        if status in _RETRIED:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            raise _TryAgain(f"replied {status} {response.reason}", wait_s=wait)
        if status in _REFUSED:
            raise _Refused(status)
        if status in (404, 410):
            raise InputError(f"{_bare(url)}: the server has no such file ({status}).")
        if status == 416:
            raise InputError(f"{_bare(url)}: ends before byte {span[0] if span else 0}; it is truncated.")
        if not 200 <= status < 300:
            raise InputError(f"{_bare(url)}: the server replied {status} {response.reason}.")
        if span and status != 206:
            raise InputError(
                f"{_bare(url)}: the server serves no parts of files (HTTP ranges). Download the files and give "
                f"the folder: --catalogue FOLDER."
            )
        sent = response.headers.get("Content-Range", "")
        if span and sent and not sent.startswith(f"bytes {span[0]}-"):
            raise _TryAgain(f"sent another part of the file ({sent}) than was asked for")

    def _read(self, response: requests.Response, span: tuple[int, int] | None) -> bytes:
        size = span[1] - span[0] if span else int(response.headers.get("Content-Length") or 1e6)
        end = time.monotonic() + self.patience.deadline_s(size)
        pieces = []
        try:
            # as bytes arrive: a read of a whole block would outlast the deadline where each byte is in time
            while piece := response.raw.read1(1 << 16, decode_content=True):
                pieces.append(piece)
                if time.monotonic() > end:
                    raise _TryAgain("the response came too slowly")
        except urllib3.exceptions.ReadTimeoutError as error:
            raise _TryAgain(f"no bytes for {self.patience.timeout_s:g} s") from error
        except urllib3.exceptions.HTTPError as error:
            raise _TryAgain("the response was cut short") from error
        return b"".join(pieces)

    def _pause(self, attempt: int, again: _TryAgain, url: str) -> None:
        wait = self.patience.first_wait_s * 2**attempt
        if again.wait_s > self.patience.longest_wait_s:
            raise NetworkError(
                f"{_bare(url)}: {again.reason} and asks to wait {again.wait_s:.0f} s. Run the same command after "
                f"that; what is done is kept."
            )
        self._sleep(max(again.wait_s, min(wait, self.patience.longest_wait_s)))


class _TryAgain(Exception):
    def __init__(self, reason: str, *, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def _check_length(response: requests.Response, content: bytes) -> None:
    length = response.headers.get("Content-Length")
    if length and not response.headers.get("Content-Encoding") and len(content) != int(length):
        raise _TryAgain("the response was cut short")


def _refusal(url: str, status: int, *, signed: bool) -> str:
    query = parse_qs(urlsplit(url).query)
    if "se" in query or "X-Amz-Expires" in query:
        until = f" (it ended {query['se'][0]})" if "se" in query else ""
        return (
            f"{_bare(url)}: refused ({status}), the signature in its address no longer holds{until}. Search the "
            f"catalogue again instead of using a stored response, or name its provider so that Tesela signs."
        )
    hint = "the signature or key was not accepted" if signed else "it asks for a key or signature"
    return f"{_bare(url)}: refused ({status}): {hint}. See 'Access' in docs/mosaic.md."


def _retry_after(text: str) -> float:
    """Seconds of a Retry-After header: a number, or a date."""
    if not text:
        return 0.0
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0


def _bare(url: str) -> str:
    """Address without its query, which may hold secrets."""
    return url.split("?")[0]


def _short(error: Exception) -> str:
    text = repr(error)
    if "refused" in text:
        return "the server refuses it"
    if "Disconnected" in text or "reset" in text:
        return "the server dropped it"
    return " ".join(str(error).split())[:120] or type(error).__name__
