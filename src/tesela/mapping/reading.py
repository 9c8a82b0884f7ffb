"""Reading: windows of a scene, standardised for a network; each block of the file is decoded once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tesela.core.scene import Scene
from tesela.core.standardisation import Standardisation
from tesela.io.scenes import SceneReader
from tesela.mapping.kernels import scale_window
from tesela.mapping.windows import Span, Strip, WindowPlan

T = TypeVar("T")


@dataclass
class Window:
    """One window in the pipeline."""

    strip: Strip
    cols: Span
    image: NDArray[np.float32]
    """(rows, cols, bands)"""
    valid: NDArray[np.bool_]
    count: int
    """Pixels with data."""

    @property
    def corner(self) -> tuple[int, int]:
        """First row and column, in the window, whose output is kept."""
        rows = self.strip.rows
        return rows.keep_start - rows.start, self.cols.keep_start - self.cols.start

    @property
    def inner(self) -> tuple[slice, slice]:
        """Rows and columns of the strip for which the window is kept."""
        first = self.strip.corner[1]
        return slice(None), slice(self.cols.keep_start - first, self.cols.keep_stop - first)


class Scaler:
    """Cuts windows from stored numbers and standardises them for one network; bands that the scene lacks are gaps."""

    def __init__(self, reader: SceneReader, standardisation: Standardisation) -> None:
        places = {name: place for place, name in enumerate(reader.scene.band_names)}
        self._bands = np.array([places.get(name, -1) for name in standardisation.bands])
        scale, offset, nodata = (form[self._bands] for form in reader.stored_form)
        self._gain, self._bias = standardisation.factors(scale, offset)
        self._nodata = nodata
        self._groups = standardisation.groups

    def cut(
        self, raw: NDArray[np.generic], corner: tuple[int, int], shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], int]:
        """
        Window of `raw` at a corner, which may reach past its end.

        Returns
        -------
        (rows, cols, bands) array of float32, (rows, cols) array of bool, int
            The standardised window, the pixels with data, and their number.
        """
        image = np.empty((*shape, len(self._bands)), np.float32)
        valid = np.empty(shape, np.bool_)
        count = scale_window(
            raw, corner, self._bands, self._gain, self._bias, self._nodata, image, valid, self._groups
        )
        return image, valid, count


class StripReader:
    """Reads the rows of strips from the top down; rows that neighbouring strips share are read once."""

    def __init__(self, reader: SceneReader, plan: WindowPlan) -> None:
        self._reader = reader
        self._plan = plan
        self._start = self._stop = 0
        self._sides = (0, 0)
        self._held: NDArray[np.generic] = np.empty((0, 0, 0))

    def read(self, strip: Strip) -> NDArray[np.generic]:
        """Stored numbers of the windows of a strip, (bands, rows, cols); cut at the scene's end."""
        rows, cols = self._reader.scene.grid.shape
        left, right = strip.cols[0].start, min(cols, strip.cols[-1].start + self._plan.width_px)
        start, stop = strip.rows.start, min(rows, strip.rows.start + self._plan.height_px)
        if self._sides != (left, right) or not self._start <= start <= self._stop:
            self._start = self._stop = start
            self._sides = (left, right)
            self._held = np.empty((0, 0, 0))
        if stop > self._stop:
            block = self._reader.block_rows
            until = min(rows, -(-stop // block) * block) if block <= self._plan.height_px else stop
            kept = self._held[:, start - self._start :].copy() if self._held.size else self._held
            self._held = np.empty((0, 0, 0))
            fresh = self._reader.read_stored(self._stop, left, (until - self._stop, right - left))
            self._held = np.concatenate([kept, fresh], axis=1) if kept.size else fresh
            self._start, self._stop = start, until
        return self._held[:, start - self._start : stop - self._start]


def read_windows(
    scene: Scene, strips: Sequence[Strip], *, plan: WindowPlan, standardisation: Standardisation
) -> Generator[Window, None, None]:
    """Read windows of strips of one panel, from the top."""
    shape = (plan.height_px, plan.width_px)
    with SceneReader(scene) as reader:
        scaler, rows = Scaler(reader, standardisation), StripReader(reader, plan)
        for strip in strips:
            raw = rows.read(strip)
            for cols in strip.cols:
                corner = (0, cols.start - strip.cols[0].start)
                yield Window(strip, cols, *scaler.cut(raw, corner, shape))


def read_trial(
    scene: Scene, *, plan: WindowPlan, standardisation: Standardisation, count: int = 2
) -> list[NDArray[np.float32]]:
    """Standardised windows from all over the scene, at most `count`, each with data in a quarter of its pixels."""
    images: list[NDArray[np.float32]] = []
    rows, cols = plan.row_spans, plan.col_spans
    total = len(rows) * len(cols)
    for number in sorted(
        {(2 * step + 1) * total // 64 for step in range(32)}, key=lambda n: abs(2 * n - total)
    ):
        strip = Strip(0, rows[number // len(cols)], (cols[number % len(cols)],))
        with closing(read_windows(scene, [strip], plan=plan, standardisation=standardisation)) as windows:
            window = next(windows)
        if window.count > window.valid.size // 4:
            images.append(window.image)
        if len(images) == count:
            break
    return images


def prefetch(items: Generator[T, None, None], *, depth: int) -> Generator[T, None, None]:
    """Take items from an iterator in another thread, at most `depth` ahead; its errors are raised here."""
    ahead: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(kind: str, item: T | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ahead.put((kind, item), timeout=0.2)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put("item", item)
                del item
                if stop.is_set():
                    return
            put("end", None)
        except BaseException as error:  # noqa: BLE001 - passed to the consumer, which raises it
            put("error", error)
        finally:
            items.close()  # in the thread that opened its files

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            kind, item = ahead.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(item, BaseException)
                raise item
            yield item  # type: ignore[misc]
            del item
    finally:
        stop.set()
        thread.join()
