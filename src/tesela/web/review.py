"""The review page: the photointerpreter's, who judges the labels of patches one by one."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pyproj
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tesela.core.errors import InputError
from tesela.patches.table import PatchTable, read_patches
from tesela.web.pictures import PatchPictures
from tesela.web.queue import ReviewQueue
from tesela.web.server import LOOPBACK, asset_routes, make_app, read_json, render
from tesela.web.verdicts import ANSWERS, REASONS, LogError, Verdict, VerdictLog, log_path, reviewer_name

_AHEAD = 6
"""Patches handed out at a time, so that the next is there before it is asked for."""

_TRAIL = 200
"""Verdicts that a page which is opened again can go back through."""


def review_app(
    table_path: str | Path,
    *,
    reviewer: str | None = None,
    order: str = "random",
    overlap: float = 0.1,
    seed: int = 0,
    host: str = LOOPBACK,
) -> Starlette:
    """
    Make the application that shows the patches of a table to reviewers and keeps their verdicts.

    Parameters
    ----------
    reviewer : str, optional
        Whose page ``/`` is; default: the name of the account. ``/?reviewer=NAME`` is that of another.
    order : {"random", "class", "disagreement"}
        See `tesela.web.queue`.
    overlap : float
        Share of the patches that every reviewer judges, blind to the others.
    host : str
        Address it will listen on; see `tesela.web.server.make_app`.

    Raises
    ------
    InputError
        If the table cannot be read, or lacks what the order needs.
    """
    table = read_patches(table_path)
    log = VerdictLog(log_path(table_path))
    queue = ReviewQueue(table, log, order=order, overlap=overlap, seed=seed)
    page = _Review(table, log, queue, name=Path(table_path).name, reviewer=reviewer or getpass.getuser())
    routes = [
        Route("/", page.show),
        Route("/api/start", page.start),
        Route("/api/queue", page.more),
        Route("/api/verdicts", page.judge, methods=["POST"]),
        Route("/api/undo", page.undo, methods=["POST"]),
        Route("/patch/image", page.image),
        Route("/patch/labels", page.labels),
        *asset_routes("base.css", "review.css", "review.js", "panes.js", "outbox.js"),
    ]
    return make_app(routes, host=host)


class _Review:
    """The answers of the page; a request names patches by their id, and never a file."""

    def __init__(
        self, table: PatchTable, log: VerdictLog, queue: ReviewQueue, *, name: str, reviewer: str
    ) -> None:
        self.table, self.log, self.queue = table, log, queue
        self.name, self.reviewer = name, reviewer
        self.pictures = PatchPictures(table)
        self._rows = {
            str(row["patch_id"]): row for row in table.frame.drop(columns="geometry").to_dict("records")
        }
        self._pixel_m = {name: scene.pixel_size_m for name, scene in table.scenes.items()}

    def show(self, request: Request) -> Response:
        return render(
            "review.html",
            {"reviewer": self._reviewer(request), "table": self.name, "reasons": REASONS, "answers": ANSWERS},
        )

    def start(self, request: Request) -> Response:
        """All that a page needs when it opens: legend, what was judged, what comes next."""
        reviewer = self._reviewer(request)
        trail = [item for item in self.log.standing(reviewer) if item.patch_id in self.pictures]
        judged = [item for item in trail if item.action == "judge"][-_TRAIL:]
        return JSONResponse(
            {
                "legend": [
                    {"value": item.value, "code": item.code, "name": item.name, "color": item.color}
                    for item in self.table.legend.classes
                ],
                "size": self.table.size_px,
                "margin": self.pictures.margin_px,
                "trail": [
                    {"item": self._item(found.patch_id), "verdict": found.model_dump()} for found in judged
                ],
                **self._next(reviewer),
            }
        )

    def more(self, request: Request) -> Response:
        return JSONResponse(self._next(self._reviewer(request)))

    async def judge(self, request: Request) -> Response:
        """Keep a verdict; it is on disk before the answer is sent."""
        verdict = Verdict.of(await read_json(request))
        if verdict.patch_id not in self.pictures:
            raise InputError(f"There is no patch '{verdict.patch_id}' in {self.name}.")
        return await _saved(self._keep, verdict)

    async def undo(self, request: Request) -> Response:
        """Take the reviewer's last word back."""
        document = await read_json(request)
        reviewer, key = document.get("reviewer"), document.get("key")
        if not isinstance(reviewer, str) or not isinstance(key, str) or not 0 < len(key) <= 64:
            raise InputError("Undoing needs the reviewer and a key.")
        return await _saved(self._take_back, reviewer, key)

    def image(self, request: Request) -> Response:
        patch_id, view = self._patch(request), request.query_params.get("view", "image")
        if view not in self.pictures.views(self.pictures.place(patch_id)[0]):
            raise HTTPException(404, "There is no such view.")
        return Response(self.pictures.image(patch_id, view), media_type="image/jpeg", headers=_KEEP)

    def labels(self, request: Request) -> Response:
        content = self.pictures.labels(self._patch(request))
        headers = {"content-encoding": "deflate", **_KEEP}
        return Response(content, media_type="application/octet-stream", headers=headers)

    def _keep(self, verdict: Verdict) -> dict[str, object]:
        self.log.add(verdict)
        if verdict.action == "skip":
            self.queue.release(verdict.patch_id)
        return self._next(verdict.reviewer)

    def _take_back(self, reviewer: str, key: str) -> dict[str, object]:
        patch_id = self.log.undo(reviewer, key)
        known = patch_id if patch_id in self.pictures else None
        return {"undone": None if known is None else self._item(known), **self._next(reviewer)}

    def _next(self, reviewer: str) -> dict[str, object]:
        patches, progress = self.queue.hand_out(reviewer, _AHEAD)
        return {"queue": [self._item(patch_id) for patch_id in patches], "progress": asdict(progress)}

    def _item(self, patch_id: str) -> dict[str, object]:
        row = self._rows[patch_id]
        scene = self.table.scenes[row["scene"]]
        grid = self.table.grid_of(row["scene"], row["row"], row["col"])
        centre = grid.extent.centroid.coords[0]
        shares: Sequence[float] = [row[column] for column in self.table.share_columns]
        return {
            "id": patch_id,
            "scene": scene.name,
            "date": scene.date,
            "views": list(self.pictures.views(scene.name)),
            "pixel_m": self._pixel_m[scene.name],
            "centre": [round(value, 6 if abs(value) < 1000 else 0) for value in centre],
            "crs": _crs_name(grid.crs),
            "shares": {
                str(value): round(share, 4)
                for value, share in zip(self.table.legend.values, shares, strict=True)
                if share > 0
            },
        }

    def _reviewer(self, request: Request) -> str:
        try:
            return reviewer_name(request.query_params.get("reviewer", self.reviewer))
        except ValueError as error:
            raise HTTPException(400, str(error)) from None

    def _patch(self, request: Request) -> str:
        patch_id = request.query_params.get("id", "")
        if patch_id not in self.pictures:
            raise HTTPException(404, "There is no such patch.")
        return patch_id


async def _saved(write: Callable[..., dict[str, object]], *given: object) -> Response:
    """Answer of what writes to the log; 503 tells the page to send it again."""
    try:
        return JSONResponse(await run_in_threadpool(write, *given))
    except LogError as error:
        raise HTTPException(503, str(error)) from None


_KEEP = {"cache-control": "private, max-age=600"}
"""A page that goes back does not load again."""


def _crs_name(crs: object) -> str:
    found = pyproj.CRS.from_user_input(crs)
    return ":".join(found.to_authority() or (found.name,))
