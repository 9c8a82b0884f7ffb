"""The review page: the photointerpreter's, who judges patches, or points of a sample, one by one."""

from __future__ import annotations

import getpass
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tesela.core.errors import InputError
from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.web.log import LogError, VerdictLog, log_path
from tesela.web.patch_items import PatchItems
from tesela.web.point_items import PointItems
from tesela.web.queue import ReviewQueue
from tesela.web.server import LOOPBACK, asset_routes, make_app, read_json, render
from tesela.web.verdicts import Verdict, reviewer_name


class ReviewItems(Protocol):
    """What reviewers judge one by one; a request names it by its id, and never a file."""

    name: str
    """Of the file that lists them, for people."""
    noun: str
    """What one of them is called: "patch", "point"."""
    template: str
    """Template of the page, with the script of its questions beside it: ``review_NOUN.js``."""
    legend: Legend
    subject: str
    """Of their log; see `tesela.web.log.VerdictLog.bind`."""
    notes: Sequence[str]
    """What reviewers should be told before they begin."""

    def __contains__(self, item_id: object) -> bool: ...

    def order(self, name: str, *, seed: int, judged: Set[str]) -> list[str]:
        """
        Ids in the order in which they are handed out; InputError if there is no such order.

        `judged` are those that were judged before, also where it was taken back.
        """
        ...

    def item(self, item_id: str) -> dict[str, object]:
        """What the page is told of one thing; `views` by name and `place` are those of `Place`."""
        ...

    def picture(self, item_id: str, view: str) -> bytes:
        """JPEG of one of its views; KeyError if there is no such view."""
        ...

    def labels(self, item_id: str) -> bytes | None:
        """Class values to judge, square, row by row, compressed by zlib; None where nothing is shown."""
        ...

    def check(self, verdict: Verdict) -> None:
        """InputError if the verdict is not one on such a thing."""
        ...

    def keep(self, log: VerdictLog, changed: Sequence[str]) -> str:
        """Carry the log's word on some things on to where it belongs; what went wrong, or nothing."""
        ...

    def extras(self) -> Mapping[str, object]:
        """What the template needs beyond what all pages need."""
        ...


_AHEAD = 6
"""ReviewItems handed out at a time, so that the next is there before it is asked for."""

_TRAIL = 200
"""Verdicts that a page which is opened again can go back through."""


def is_sample(path: str | Path) -> bool:
    """Whether a file is a sample of points; else it is a patch table."""
    return Path(path).suffix.lower() == ".gpkg"


def review_app(
    path: str | Path,
    *,
    images: Sequence[Scene] = (),
    legend: Legend | None = None,
    reviewer: str | None = None,
    order: str = "random",
    overlap: float = 0.1,
    seed: int = 0,
    host: str = LOOPBACK,
) -> Starlette:
    """
    Make the application that shows patches or points to reviewers and keeps their verdicts.

    Parameters
    ----------
    path : path
        Patch table (``.parquet``), or sample of points (``.gpkg``).
    images, legend
        Of a sample: the scenes to look at, and the classes to choose from (default: those in the file).
    reviewer : str, optional
        Whose page ``/`` is; default: the name of the account. ``/?reviewer=NAME`` is that of another.
    order : {"random", "class", "disagreement"}
        Of patches, see `tesela.web.patch_items`; a sample has a random order of its own.
    overlap : float
        Share that every reviewer judges, blind to the others.
    host : str
        Address it will listen on; see `tesela.web.server.make_app`.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks what the order needs.
    """
    things: ReviewItems = PointItems(path, images, legend=legend) if is_sample(path) else PatchItems(path)
    if seed < 0:
        raise InputError(f"The seed is {seed}; it is 0 or more.")
    log = VerdictLog(log_path(path))
    log.bind(things.subject)
    ordered = things.order(order, seed=seed, judged=log.judged())
    queue = ReviewQueue(ordered, log, overlap=overlap, seed=seed)
    page = _Review(things, log, queue, reviewer=reviewer or getpass.getuser())
    routes = [
        Route("/", page.show),
        Route("/api/start", page.start),
        Route("/api/queue", page.more),
        Route("/api/verdicts", page.judge, methods=["POST"]),
        Route("/api/undo", page.undo, methods=["POST"]),
        Route("/picture", page.picture),
        Route("/labels", page.labels),
        *asset_routes(
            "base.css", "review.css", "review.js", f"review_{things.noun}.js", "panes.js", "outbox.js"
        ),
    ]
    return make_app(routes, host=host)


class _Review:
    """The answers of the page; a request names things by their id, and never a file."""

    def __init__(self, things: ReviewItems, log: VerdictLog, queue: ReviewQueue, *, reviewer: str) -> None:
        self.things, self.log, self.queue, self.reviewer = things, log, queue, reviewer
        self._late = log.judged()
        """What the log may say otherwise than the place where answers go; what was never judged, it leaves alone."""
        self._carrying = threading.Lock()
        self._carry_on()

    def show(self, request: Request) -> Response:
        values = {
            "reviewer": self._reviewer(request),
            "name": self.things.name,
            "noun": self.things.noun,
            "subject": self.things.subject,
        }
        return render(self.things.template, {**values, **self.things.extras()})

    def start(self, request: Request) -> Response:
        """All that a page needs when it opens: legend, what was judged, what comes next."""
        reviewer = self._reviewer(request)
        trail = [item for item in self.log.standing(reviewer) if item.item_id in self.things]
        judged = [item for item in trail if item.action == "judge"][-_TRAIL:]
        return JSONResponse(
            {
                "legend": [
                    {"value": item.value, "code": item.code, "name": item.name, "color": item.color}
                    for item in self.things.legend.classes
                ],
                "notes": list(self.things.notes),
                "trail": [
                    {"item": self.things.item(found.item_id), "verdict": found.model_dump()}
                    for found in judged
                ],
                **self._next(reviewer),
            }
        )

    def more(self, request: Request) -> Response:
        return JSONResponse(self._next(self._reviewer(request)))

    async def judge(self, request: Request) -> Response:
        """Keep a verdict; it is on disk before the answer is sent."""
        verdict = Verdict.of(await read_json(request))
        if verdict.item_id not in self.things:
            raise InputError(f"There is no {self.things.noun} '{verdict.item_id}' in {self.things.name}.")
        self.things.check(verdict)
        return await _saved(self._keep, verdict)

    async def undo(self, request: Request) -> Response:
        """Take the reviewer's last word back."""
        document = await read_json(request)
        reviewer, key = document.get("reviewer"), document.get("key")
        if not isinstance(reviewer, str) or not isinstance(key, str) or not 0 < len(key) <= 64:
            raise InputError("Undoing needs the reviewer and a key.")
        return await _saved(self._take_back, reviewer, key)

    def picture(self, request: Request) -> Response:
        item_id = self._thing(request)
        try:
            content = self.things.picture(item_id, request.query_params.get("view", ""))
        except KeyError:
            raise HTTPException(404, "There is no such view.") from None
        return Response(content, media_type="image/jpeg", headers=_KEEP)

    def labels(self, request: Request) -> Response:
        content = self.things.labels(self._thing(request))
        if content is None:
            raise HTTPException(404, "There are no labels.")
        headers = {"content-encoding": "deflate", **_KEEP}
        return Response(content, media_type="application/octet-stream", headers=headers)

    def _keep(self, verdict: Verdict) -> dict[str, object]:
        self.log.add(verdict)
        if verdict.action == "skip":
            self.queue.release(verdict.item_id)
        return {"warning": self._carry_on(verdict.item_id), **self._next(verdict.reviewer)}

    def _take_back(self, reviewer: str, key: str) -> dict[str, object]:
        item_id = self.log.undo(reviewer, key)
        if item_id is None or item_id not in self.things:
            return {"undone": None, **self._next(reviewer)}
        return {
            "undone": self.things.item(item_id),
            "warning": self._carry_on(item_id),
            **self._next(reviewer),
        }

    def _carry_on(self, *changed: str) -> str:
        """Carry what changed, and what could not be carried before, to where answers go."""
        with self._carrying:
            self._late |= self.log.judged().intersection(changed)
            trouble = self.things.keep(self.log, sorted(self._late)) if self._late else ""
            if not trouble:
                self._late.clear()
            return trouble

    def _next(self, reviewer: str) -> dict[str, object]:
        handed, progress = self.queue.hand_out(reviewer, _AHEAD)
        return {"queue": [self.things.item(item_id) for item_id in handed], "progress": asdict(progress)}

    def _reviewer(self, request: Request) -> str:
        try:
            return reviewer_name(request.query_params.get("reviewer", self.reviewer))
        except ValueError as error:
            raise HTTPException(400, str(error)) from None

    def _thing(self, request: Request) -> str:
        item_id = request.query_params.get("id", "")
        if item_id not in self.things:
            raise HTTPException(404, f"There is no such {self.things.noun}.")
        return item_id


async def _saved(write: Callable[..., dict[str, object]], *given: object) -> Response:
    """Answer of what writes to the log; 503 tells the page to send it again."""
    try:
        return JSONResponse(await run_in_threadpool(write, *given))
    except LogError as error:
        raise HTTPException(503, str(error)) from None


_KEEP = {"cache-control": "private, max-age=600"}
"""A page that goes back does not load again."""
