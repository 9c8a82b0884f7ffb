"""Blocks of a cube: how a cube is divided, how a block is unmixed, and the layers of its part."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tesela.core.grid import window_grid
from tesela.io.abundance import round_shares
from tesela.io.cube import Cube
from tesela.io.parts import PartStore, run_tasks
from tesela.mapping.abundance.engines import choose_runner
from tesela.models.expert import Expert, open_expert, save_expert
from tesela.models.inference import Runner, Unmixed, margin_of, series_of, unmix
from tesela.models.output import UnmixingNetwork
from tesela.models.unmixing_header import Floats, scale_series

DEVIATION_STEPS = 254
"""Standard deviations are stored in steps of one over this number."""

DEVIATION_MISSING = 255
"""Stored where there is no deviation."""

_PIXELS_AT_ONCE = 16_384
"""Pixels of one call of a network."""


@dataclass(frozen=True)
class Block:
    """A window of the cube that is unmixed in one go."""

    number: int
    row: int
    col: int
    shape: tuple[int, int]


@dataclass(frozen=True)
class BlockLayout:
    """Layers of a part: uint16 layers for the shares, then the optional ones."""

    classes: int
    deviation: bool
    series: int
    """Values of a pixel's filled series; 0 if it is not kept."""

    def pack(self, unmixed: Unmixed) -> NDArray[np.uint8]:
        """Bytes of a block, (layers, rows, cols) with the columns of uint16 doubled."""
        shares = np.moveaxis(unmixed.shares, -1, 0)
        layers = [round_shares(shares), unmixed.unseen[None].astype(np.uint16)]
        if self.deviation and unmixed.deviation is not None:
            spread = np.moveaxis(unmixed.deviation, -1, 0)
            steps = np.clip(np.rint(np.nan_to_num(spread) * DEVIATION_STEPS), 0, DEVIATION_STEPS)
            layers.append(np.where(np.isnan(spread), DEVIATION_MISSING, steps).astype(np.uint16))
        if self.series and unmixed.imputed is not None:
            rows, cols = unmixed.unseen.shape
            whole = np.ascontiguousarray(unmixed.imputed.reshape(rows, cols, self.series).transpose(2, 0, 1))
            halves = whole.view(np.uint16)
            layers += [halves[..., 0::2], halves[..., 1::2]]
        return np.ascontiguousarray(np.concatenate(layers)).view(np.uint8)

    def unpack(self, part: NDArray[np.uint8]) -> Part:
        """Read the bytes of `pack`."""
        layers = np.ascontiguousarray(part).view(np.uint16)
        shares, unseen, rest = np.split(layers, [self.classes, self.classes + 1])
        deviation, low, high = np.split(
            rest, [self.classes * self.deviation, self.classes * self.deviation + self.series]
        )
        rows, cols = layers.shape[1:]
        whole = np.empty((self.series, rows, 2 * cols), np.uint16)
        whole[..., 0::2], whole[..., 1::2] = low, high
        return Part(shares, unseen[0] > 0, deviation, whole.view(np.float32))


class Part(NamedTuple):
    """Layers of a finished block."""

    shares: NDArray[np.uint16]
    unseen: NDArray[np.bool_]
    deviation: NDArray[np.uint16]
    series: Floats
    """(steps x bands, rows, cols); no layers without filled series."""


def make_blocks(cube: Cube, *, margin_px: int, memory: int) -> list[Block]:
    """Windows of whole chunks that cover the cube once, as large as the memory allows."""
    rows, cols = (int(side) for side in cube.grid.shape)
    per_pixel = 4 * (len(cube.times) * len(cube.bands) * 6 + 64)
    side = cube.chunk_px
    while (2 * side + 2 * margin_px) ** 2 * per_pixel <= memory and side < max(rows, cols):
        side *= 2
    corners = [(row, col) for row in range(0, rows, side) for col in range(0, cols, side)]
    return [
        Block(number, row, col, (min(side, rows - row), min(side, cols - col)))
        for number, (row, col) in enumerate(corners)
    ]


def unmix_block(expert: Expert, run: Runner, cube: Cube, block: Block, *, level: int | None) -> Unmixed:
    """Unmix one block; the arrays of the result are (rows, cols, ...)."""
    margin = margin_of(expert.network)
    rows, cols = block.shape
    values, layers = _read(expert, cube, block)
    pieces = []
    step = max(1, _PIXELS_AT_ONCE // (cols + 2 * margin))
    for top in range(0, rows, step):
        taken = slice(top, min(top + step, rows) + 2 * margin)
        pieces.append(unmix(expert.header, run, values[None, taken], layers[None, taken], level=level))
    return Unmixed(
        np.concatenate([piece.shares[0] for piece in pieces]),
        None
        if pieces[0].deviation is None
        else np.concatenate([_first(piece.deviation) for piece in pieces]),
        np.concatenate([piece.unseen[0] for piece in pieces]),
        None if pieces[0].imputed is None else np.concatenate([_first(piece.imputed) for piece in pieces]),
    )


def _read(expert: Expert, cube: Cube, block: Block) -> tuple[Floats, Floats]:
    """Series (rows, cols, steps, bands) and layers of a block with the neighbours that the expert uses."""
    margin = margin_of(expert.network)
    rows, cols = block.shape
    window = window_grid(
        cube.grid, block.row - margin, block.col - margin, rows + 2 * margin, cols + 2 * margin
    )
    bands = [cube.bands.index(name) for name in expert.header.bands]
    values = cube.read(window)[:, bands].transpose(2, 3, 0, 1)
    return values, cube.read_layers(series_of(expert.header).layers, window).transpose(1, 2, 0)


_TRIAL_PX = 32
_TRIAL_WINDOWS = 4
"""The trial of an engine: so many windows on each side of an even grid over the cube, 16,384 pixels."""


def trial_series(expert: Expert, cube: Cube) -> tuple[Floats, Floats, Floats] | None:
    """Scaled series, masks and layers of windows all over the cube, (windows, rows, cols, ...); None if it is small."""
    rows, cols = (int(side) for side in cube.grid.shape)
    if min(rows, cols) < _TRIAL_PX:
        return None
    steps = (np.arange(_TRIAL_WINDOWS) + 0.5) / _TRIAL_WINDOWS
    tops = ((rows - _TRIAL_PX) * steps).astype(int).tolist()
    lefts = ((cols - _TRIAL_PX) * steps).astype(int).tolist()
    parts = [
        _read(expert, cube, Block(0, top, left, (_TRIAL_PX, _TRIAL_PX))) for top in tops for left in lefts
    ]
    header = expert.header
    values, mask = scale_series(
        np.stack([part[0] for part in parts]),
        np.array(header.mean, np.float32),
        np.array(header.std, np.float32),
    )
    return values, mask, series_of(header).scaled_layers(np.stack([part[1] for part in parts]))


def _first(item: Floats | None) -> Floats:
    assert item is not None
    first: Floats = item[0]
    return first


@dataclass(frozen=True)
class _ClusterJob:
    """What each task carries: little, because expert and cube are read from files."""

    cube: Cube
    expert: str
    engine: str
    layout: BlockLayout
    level: int | None


def run_blocks(
    address: str,
    blocks: Sequence[Block],
    store: PartStore,
    *,
    expert: Expert,
    cube: Cube,
    level: int | None,
    layout: BlockLayout,
    engine: str,
    advance: Callable[[Block], None],
) -> None:
    """
    Make the parts of these blocks on the workers of a Dask scheduler; see `tesela.io.parts.run_tasks`.

    The expert is written once beside the parts; each worker process loads it for its first block.
    """
    if not blocks:
        return
    model = save_expert(store.folder / "expert.safetensors", expert)
    job = _ClusterJob(
        replace(cube, path=str(Path(cube.path).resolve())),
        str(model.resolve()),
        engine,
        layout,
        level,
    )
    by_number = {block.number: block for block in blocks}
    work = partial(_unmix, job=job)
    run_tasks(address, blocks, work, store=store, advance=lambda number: advance(by_number[number]))


_ready: dict[tuple[str, str, bool], tuple[Expert, Runner]] = {}
_one_at_a_time = threading.Lock()


def _unmix(block: Block, store: PartStore, *, job: _ClusterJob) -> None:
    """Make one part on a worker."""
    with _one_at_a_time:
        expert, run = _load(job)
        unmixed = unmix_block(expert, run, job.cube, block, level=job.level)
        store.write(block.number, job.layout.pack(unmixed))


def _load(job: _ClusterJob) -> tuple[Expert, Runner]:
    """The expert of this process, loaded for its first block."""
    key = (job.expert, job.engine, job.layout.series > 0)
    if key not in _ready:
        _ready.clear()
        expert = open_expert(job.expert)
        assert isinstance(expert.network, UnmixingNetwork)
        run, _ = choose_runner(
            expert.network,
            expert.header.architecture,
            engine=job.engine,
            pixels=0,
            imputed=job.layout.series > 0,
        )
        _ready[key] = expert, run
    return _ready[key]
