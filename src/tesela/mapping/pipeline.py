"""The pipeline: reader, network and writer at work at once, in memory that does not grow with the scene."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tesela.core.legend import Legend
from tesela.core.scene import Scene
from tesela.io.parts import PartStore
from tesela.io.raster import SceneReader
from tesela.mapping.engines import Engine
from tesela.mapping.kernels import pick_classes, scale_window, weigh_classes
from tesela.mapping.windows import Span, WindowPlan

T = TypeVar("T")


@dataclass(frozen=True)
class Scaling:
    """How quantities become the network's numbers: (quantity - mean) / std, by band."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Layers:
    """Which layers a run makes beside the classes."""

    scores: bool = False
    """Confidence and entropy."""
    probabilities: bool = False
    """One layer per class."""

    def count(self, legend: Legend) -> int:
        """Number of layers in a part: classes, confidence, entropy, probabilities."""
        return 1 + 2 * (self.scores or self.probabilities) + len(legend) * self.probabilities


@dataclass(frozen=True)
class Strip:
    """One part of the work: a row of windows of one panel of columns."""

    number: int
    rows: Span
    cols: tuple[Span, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of ground kept."""
        return self.rows.keep_stop - self.rows.keep_start, self.cols[-1].keep_stop - self.cols[0].keep_start


def make_strips(plan: WindowPlan, *, bytes_per_px: int, memory: int) -> tuple[tuple[Strip, ...], ...]:
    """
    Divide the windows into panels of columns and strips of rows, so that one strip takes at most `memory` bytes.

    Returns
    -------
    tuple of panels, each a tuple of strips from the top
    """
    per_col = plan.width_px * 2 * plan.height_px * bytes_per_px
    each = max(1, memory // per_col)
    spans = plan.col_spans
    panels = [spans[start : start + each] for start in range(0, len(spans), each)]
    rows = plan.row_spans
    return tuple(
        tuple(Strip(panel * len(rows) + index, span, tuple(cols)) for index, span in enumerate(rows))
        for panel, cols in enumerate(panels)
    )


@dataclass
class _Window:
    """One window on its way through the pipeline."""

    strip: Strip
    cols: Span
    image: NDArray[np.float32]
    valid: NDArray[np.bool_]
    count: int
    last: bool


def run_strips(
    scene: Scene,
    strips: Sequence[Strip],
    store: PartStore,
    *,
    plan: WindowPlan,
    engine: Engine,
    scaling: Scaling,
    legend: Legend,
    layers: Layers,
    advance: Callable[[int], None],
) -> None:
    """
    Make the parts of these strips (of one panel, from the top) and put them into the store.

    Parameters
    ----------
    advance : callable of int
        Called with the number of windows done.
    """
    form = _Answers(store, legend, layers)
    reading = prefetch(_read_windows(scene, strips, plan=plan, scaling=scaling), depth=2)
    with ThreadPoolExecutor(1) as writer, closing(reading) as windows:
        pending: deque[Future[None]] = deque()
        for window in windows:
            scores = engine.scores(window.image[np.newaxis])[0] if window.count else None
            pending.append(writer.submit(form.take, window, scores))
            while len(pending) > 2:
                pending.popleft().result()
            advance(1)
        for future in pending:
            future.result()


def read_trial(scene: Scene, plan: WindowPlan, *, scaling: Scaling) -> NDArray[np.float32] | None:
    """Scaled window from the middle of the scene, or the first one that holds data; None where there is none."""
    rows, cols = plan.row_spans, plan.col_spans
    order = [(rows[len(rows) // 2], cols[len(cols) // 2]), *plan]
    for row_span, col_span in order[:64]:
        strip = Strip(0, row_span, (col_span,))
        with closing(_read_windows(scene, [strip], plan=plan, scaling=scaling)) as windows:
            window = next(windows)
        if window.count:
            return window.image[np.newaxis]
    return None


def _read_windows(scene: Scene, strips: Sequence[Strip], *, plan: WindowPlan, scaling: Scaling) -> Generator[_Window, None, None]:
    """Read each row of the panel once, by whole blocks, and cut and scale the windows."""
    height, width = plan.height_px, plan.width_px
    with SceneReader(scene) as reader:
        scale, offset, nodata = reader.stored_form
        std = np.array(scaling.std)
        gain = (scale / std).astype(np.float32)
        bias = ((offset - np.array(scaling.mean)) / std).astype(np.float32)
        buffer = _Rows(reader)
        for strip in strips:
            left = strip.cols[0].start
            right = min(scene.grid.shape[1], strip.cols[-1].start + width)
            raw = buffer.read(strip.rows.start, min(scene.grid.shape[0], strip.rows.start + height), left, right)
            for cols in strip.cols:
                image = np.empty((height, width, len(scene.bands)), np.float32)
                valid = np.empty((height, width), np.bool_)
                count = scale_window(raw, 0, cols.start - left, gain, bias, nodata, image, valid)
                yield _Window(strip, cols, image, valid, count, last=cols is strip.cols[-1])


@dataclass
class _Rows:
    """Rows of a panel that were read and are still needed: neighbouring strips share their margins."""

    reader: SceneReader
    start: int = 0
    stop: int = 0
    sides: tuple[int, int] = (0, 0)
    held: NDArray[np.generic] = field(default_factory=lambda: np.empty((0, 0, 0)))

    def read(self, start: int, stop: int, left: int, right: int) -> NDArray[np.generic]:
        if self.sides != (left, right) or not self.start <= start <= self.stop:
            self.start = self.stop = start
            self.sides = (left, right)
            self.held = np.empty((0, 0, 0))
        if stop > self.stop:
            block = self.reader.block_rows
            until = min(self.reader.scene.grid.shape[0], -(-stop // block) * block if block < 4096 else stop)
            fresh = self.reader.read_stored(self.stop, left, (until - self.stop, right - left))
            kept = self.held[:, start - self.start :] if self.held.size else self.held
            self.held = np.concatenate([kept, fresh], axis=1) if kept.size else fresh
            self.start, self.stop = start, until
        return self.held[:, start - self.start : stop - self.start]


class _Answers:
    """Turns scores into the layers of a part, and stores the part when its last window is there."""

    def __init__(self, store: PartStore, legend: Legend, layers: Layers) -> None:
        self.store = store
        self.legend = legend
        self.layers = layers
        self.part = np.empty((0, 0, 0), np.uint8)

    def take(self, window: _Window, scores: NDArray[np.float32] | None) -> None:
        strip, cols = window.strip, window.cols
        if cols is strip.cols[0]:
            self.part = np.zeros((self.layers.count(self.legend), *strip.shape), np.uint8)
            self.part[1:] = 255
        first = strip.cols[0].keep_start
        place = self.part[:, :, cols.keep_start - first : cols.keep_stop - first]
        if scores is not None:
            keep = (
                slice(strip.rows.keep_start - strip.rows.start, strip.rows.keep_stop - strip.rows.start),
                slice(cols.keep_start - cols.start, cols.keep_stop - cols.start),
            )
            pick_classes(scores[keep], window.valid[keep], self.legend.value_table, place[0])
            if self.part.shape[0] > 1:
                weigh_classes(scores[keep], window.valid[keep], place[1], place[2], place[3:])
        if window.last:
            self.store.write(strip.number, self.part)


def prefetch(items: Generator[T, None, None], *, depth: int) -> Generator[T, None, None]:
    """Take items from an iterator in a thread of its own, at most `depth` ahead; its errors come out here."""
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
                if stop.is_set():
                    return
            put("end", None)
        except BaseException as error:  # noqa: BLE001 - carried over to the consumer, which raises it
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
    finally:
        stop.set()
        thread.join()


def weights_fingerprint(state: dict[str, NDArray[np.generic]]) -> str:
    """SHA-256 of a network's tensors, by name."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(state[name]).tobytes())
    return digest.hexdigest()[:32]
