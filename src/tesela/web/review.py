"""The review page, where photointerpreters rate patches, interpret points or decide on changes, one by one."""

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
from tesela.io.update_queue import is_queue
from tesela.web.change_review import ChangeItems, read_change_decisions
from tesela.web.log import LogError, VerdictLog, log_path
from tesela.web.patch_review import PatchItems, read_review
from tesela.web.point_interpretation import PointItems, read_interpretation
from tesela.web.queue import ReviewQueue
from tesela.web.review_results import ReviewResults
from tesela.web.server import LOOPBACK, asset_routes, make_app, read_json, render
from tesela.web.verdicts import Verdict, reviewer_name


class ReviewItems(Protocol):
    """The items of a review; a request refers to them by id, never by file."""

    name: str
    """Name of their file, for display."""
    noun: str
    """Name of one item: "patch", "point", "change"."""
    template: str
    """Template of the page; the script of its questions is ``review_NOUN.js``."""
    legend: Legend
    default_order: str
    subject: str
    """Subject of the log; see `tesela.web.log.VerdictLog.bind`."""
    notes: Sequence[str]
    """Notes for reviewers at the start."""

    def __contains__(self, item_id: object) -> bool: ...

    def order(self, name: str, *, seed: int, rated: Set[str]) -> list[str]:
        """
        Ids in the order of the review; InputError if the order is unknown.

        `rated` are the ids of earlier verdicts, including those undone.
        """
        ...

    def item(self, item_id: str) -> dict[str, object]:
        """Document of one item for the page, with its `views` by name and its `extent`, see `PictureExtent`."""
        ...

    def picture(self, item_id: str, view: str) -> bytes:
        """JPEG of one of its views; KeyError if there is no such view."""
        ...

    def labels(self, item_id: str) -> bytes | None:
        """Class values, square, row by row, compressed by zlib; None if the page shows none."""
        ...

    def check(self, verdict: Verdict) -> None:
        """InputError if the verdict does not fit the items."""
        ...

    def write_back(self, log: VerdictLog, changed: Sequence[str]) -> str:
        """Write the verdicts on changed items to the reviewed file; returns a warning, or nothing."""
        ...

    def extras(self) -> Mapping[str, object]:
        """Additional values of the template."""
        ...


_AHEAD = 6
"""Items handed out at a time, so that the page can load the next ones early."""

_TRAIL = 200
"""Earlier verdicts to which a page can go back after a reload."""


def is_sample(path: str | Path) -> bool:
    """Whether a file is a sample of points, not a patch table or a queue of changes."""
    return Path(path).suffix.lower() == ".gpkg" and not is_queue(path)


def read_results(path: str | Path) -> ReviewResults:
    """
    Read the verdicts on a patch table, a sample of points or a queue of changes.

    Raises
    ------
    InputError
        If there are none, or the log belongs to another file of that name.
    """
    if is_queue(path):
        return read_change_decisions(path)
    return read_interpretation(path) if is_sample(path) else read_review(path)


def review_app(
    path: str | Path,
    *,
    images: Sequence[Scene] = (),
    legend: Legend | None = None,
    reviewer: str | None = None,
    order: str | None = None,
    overlap: float = 0.1,
    seed: int = 0,
    host: str = LOOPBACK,
) -> Starlette:
    """
    Make the application that shows patches, points or proposed changes to reviewers and stores their verdicts.

    Parameters
    ----------
    path : path
        Patch table (``.parquet``), sample of points or queue of an update (``.gpkg``).
    images, legend
        For a sample: the scenes to interpret, and the classes (default: those in the file). For a queue: scenes of one
        or more dates.
    reviewer : str, optional
        Reviewer of the page ``/``; default: the name of the account. Others open ``/?reviewer=NAME``.
    order : {"random", "class", "disagreement"}, optional
        Order of patches, see `tesela.web.patch_review`; default: random. A sample has its own random order, and a
        queue has the most urgent first.
    overlap : float
        Share of items that every reviewer gets, without seeing the verdicts of others.
    host : str
        Address of the server; see `tesela.web.server.make_app`.

    Raises
    ------
    InputError
        If the file cannot be read, or has no column for the order.
    """
    items: ReviewItems
    if is_queue(path):
        items = ChangeItems(path, images)
    else:
        items = PointItems(path, images, legend=legend) if is_sample(path) else PatchItems(path)
    if seed < 0:
        raise InputError(f"The seed is {seed}; it is 0 or more.")
    log = VerdictLog(log_path(path))
    log.bind(items.subject)
    ordered = items.order(order or items.default_order, seed=seed, rated=log.rated())
    queue = ReviewQueue(ordered, log, overlap=overlap, seed=seed)
    page = _Review(items, log, queue, reviewer=reviewer or getpass.getuser())
    routes = [
        Route("/", page.show),
        Route("/api/start", page.start),
        Route("/api/queue", page.more),
        Route("/api/verdicts", page.add_verdict, methods=["POST"]),
        Route("/api/undo", page.undo, methods=["POST"]),
        Route("/picture", page.picture),
        Route("/labels", page.labels),
        *asset_routes(
            "base.css",
            "review.css",
            "review.js",
            f"review_{items.noun}.js",
            "class_list.js",
            "panes.js",
            "outbox.js",
        ),
    ]
    return make_app(routes, host=host)


class _Review:
    """Handlers of the page; a request refers to items by id, never to a file."""

    def __init__(self, items: ReviewItems, log: VerdictLog, queue: ReviewQueue, *, reviewer: str) -> None:
        self.items, self.log, self.queue, self.reviewer = items, log, queue, reviewer
        self._pending = log.rated()
        """Items whose verdicts may not yet be in the reviewed file; items without verdicts are left unchanged."""
        self._writing = threading.Lock()
        self._write_back()

    def show(self, request: Request) -> Response:
        values = {
            "reviewer": self._reviewer(request),
            "name": self.items.name,
            "noun": self.items.noun,
            "subject": self.items.subject,
        }
        return render(self.items.template, {**values, **self.items.extras()})

    def start(self, request: Request) -> Response:
        """Document for a new page: legend, earlier verdicts, next items."""
        reviewer = self._reviewer(request)
        trail = [item for item in self.log.standing(reviewer) if item.item_id in self.items]
        rated = [item for item in trail if item.action == "rate"][-_TRAIL:]
        return JSONResponse(
            {
                "legend": [
                    {"value": item.value, "code": item.code, "name": item.name, "color": item.color}
                    for item in self.items.legend.classes
                ],
                "notes": list(self.items.notes),
                "trail": [
                    {"item": self.items.item(verdict.item_id), "verdict": verdict.model_dump()}
                    for verdict in rated
                ],
                **self._next(reviewer),
            }
        )

    def more(self, request: Request) -> Response:
        return JSONResponse(self._next(self._reviewer(request)))

    async def add_verdict(self, request: Request) -> Response:
        """Store a verdict; it is on disk before the response is sent."""
        verdict = Verdict.of(await read_json(request))
        if verdict.item_id not in self.items:
            raise InputError(f"There is no {self.items.noun} '{verdict.item_id}' in {self.items.name}.")
        self.items.check(verdict)
        return await _saved(self._add, verdict)

    async def undo(self, request: Request) -> Response:
        """Undo the last verdict of the reviewer."""
        document = await read_json(request)
        reviewer, key = document.get("reviewer"), document.get("key")
        if not isinstance(reviewer, str) or not isinstance(key, str) or not 0 < len(key) <= 64:
            raise InputError("An undo needs the reviewer and a key.")
        return await _saved(self._undo, reviewer, key)

    def picture(self, request: Request) -> Response:
        item_id = self._item_id(request)
        try:
            content = self.items.picture(item_id, request.query_params.get("view", ""))
        except KeyError:
            raise HTTPException(404, "There is no such view.") from None
        return Response(content, media_type="image/jpeg", headers=_CACHE_HEADERS)

    def labels(self, request: Request) -> Response:
        content = self.items.labels(self._item_id(request))
        if content is None:
            raise HTTPException(404, "There are no labels.")
        headers = {"content-encoding": "deflate", **_CACHE_HEADERS}
        return Response(content, media_type="application/octet-stream", headers=headers)

    def _add(self, verdict: Verdict) -> dict[str, object]:
        self.log.add(verdict)
        if verdict.action == "skip":
            self.queue.release(verdict.item_id)
        return {"warning": self._write_back(verdict.item_id), **self._next(verdict.reviewer)}

    def _undo(self, reviewer: str, key: str) -> dict[str, object]:
        item_id = self.log.undo(reviewer, key)
        if item_id is None or item_id not in self.items:
            return {"undone": None, **self._next(reviewer)}
        return {
            "undone": self.items.item(item_id),
            "warning": self._write_back(item_id),
            **self._next(reviewer),
        }

    def _write_back(self, *changed: str) -> str:
        """Write changed items, and those that could not be written before, to the reviewed file."""
        with self._writing:
            self._pending |= self.log.rated().intersection(changed)
            warning = self.items.write_back(self.log, sorted(self._pending)) if self._pending else ""
            if not warning:
                self._pending.clear()
            return warning

    def _next(self, reviewer: str) -> dict[str, object]:
        handed, progress = self.queue.hand_out(reviewer, _AHEAD)
        return {"queue": [self.items.item(item_id) for item_id in handed], "progress": asdict(progress)}

    def _reviewer(self, request: Request) -> str:
        try:
            return reviewer_name(request.query_params.get("reviewer", self.reviewer))
        except ValueError as error:
            raise HTTPException(400, str(error)) from None

    def _item_id(self, request: Request) -> str:
        item_id = request.query_params.get("id", "")
        if item_id not in self.items:
            raise HTTPException(404, f"There is no such {self.items.noun}.")
        return item_id


async def _saved(write: Callable[..., dict[str, object]], *given: object) -> Response:
    """Response of a function that writes to the log; 503 makes the page send it again."""
    try:
        return JSONResponse(await run_in_threadpool(write, *given))
    except LogError as error:
        raise HTTPException(503, str(error)) from None


_CACHE_HEADERS = {"cache-control": "private, max-age=600"}
"""A page that goes back uses the cache of the browser."""
