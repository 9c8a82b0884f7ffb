"""Unmix: one expert and one cube make one abundance map."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from tesela.core.errors import ExpertError, InputError, join_words
from tesela.core.legend import Legend
from tesela.core.machine import steady_memory
from tesela.core.units import parse_memory_bytes
from tesela.io.abundance import AbundanceMap, AbundanceWriter
from tesela.io.cube import Cube
from tesela.io.cube_writer import CubeWriter, check_target
from tesela.io.maps import MapWriter, ScoreWriter
from tesela.io.parts import PartStore
from tesela.io.scratch import check_outputs
from tesela.mapping.abundance.blocks import DEVIATION_STEPS, Block, BlockLayout, make_blocks, unmix_block
from tesela.mapping.abundance.engines import choose_runner
from tesela.mapping.predict import fingerprint_network
from tesela.models.expert import Expert
from tesela.models.inference import TorchRunner, series_of, unmix
from tesela.models.output import UnmixingNetwork

Progress = Callable[[int, int], None]
"""Called with the pixels done and the pixels in all."""


@dataclass(frozen=True)
class Unmixing:
    """An abundance map that was made, and how."""

    map: AbundanceMap
    engine: str
    pixels: int
    """Pixels with shares."""
    unseen: int
    """Of these, pixels without a single observation, whose answer is the prior of the training pixels."""
    seconds: float
    resumed: int
    """Blocks that a former run had left."""


def unmix_cube(
    expert: Expert,
    cube: Cube,
    out: str | Path,
    *,
    level: int | None = None,
    classes: str | Path | None = None,
    uncertainty: str | Path | None = None,
    imputed: str | Path | None = None,
    engine: str = "auto",
    memory: str | int = "512 MiB",
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Unmixing:
    """
    Apply an unmixing expert to a cube of any size.

    Blocks that are done are kept beside the output: after a crash the same call continues, and ends with the same
    bytes. Pixels without a single observation get the prior of the training pixels, and are counted.

    Parameters
    ----------
    expert : Expert
        Its bands, months and layers are taken from the cube by name and order.
    level : int, optional
        Coarser level of the expert's legend to write: its shares are the sums of their children's.
    classes, uncertainty : path, optional
        Further rasters of the same pass: the class with the largest share, and the standard deviation of each share.
    imputed : path, optional
        Cube to write, with the gaps filled; for experts that fill them.
    engine : {"auto", "torch", "openvino"}
        What runs the network; see `tesela.mapping.abundance.engines`.
    memory : str or int
        Budget of a block, such as "256 MiB", or bytes.
    cluster : str, optional
        "local", or the address of a Dask scheduler whose workers see the same files.

    Raises
    ------
    ExpertError
        If the expert is of another task, or lacks what was asked for.
    InputError
        If the cube lacks a band, month or layer, or the output cannot be written.
    """
    started = time.perf_counter()
    series_of(expert.header)
    network = expert.network
    assert isinstance(network, UnmixingNetwork)
    legend = expert.header.legend if level is None else expert.header.legend.level(level)
    check_outputs([out, classes, uncertainty, imputed], inputs=[cube.path])
    if imputed is not None:
        check_target(Path(imputed))
    check_cube(expert, cube)
    _check_wishes(expert, cube, uncertainty=uncertainty is not None, imputed=imputed is not None)
    rows, cols = (int(side) for side in cube.grid.shape)
    run, name = choose_runner(
        network,
        expert.header.architecture,
        engine=engine,
        pixels=rows * cols,
        imputed=imputed is not None,
    )
    layout = BlockLayout(
        len(legend), uncertainty is not None, len(cube.times) * len(expert.header.bands) if imputed else 0
    )
    blocks = make_blocks(cube, margin_px=network.margin_px, memory=parse_memory_bytes(memory))
    with PartStore(out) as store, steady_memory():
        store.start(
            {
                "network": fingerprint_network(network),
                "legend": legend.address,
                "cube": describe_cube(cube),
                "layout": [layout.classes, layout.deviation, layout.series],
                "engine": name,
                "blocks": [len(blocks), *blocks[0].shape],
            }
        )
        waiting = [block for block in blocks if not store.has(block.number)]
        resumed = len(blocks) - len(waiting)
        total = rows * cols
        done = total - sum(block.shape[0] * block.shape[1] for block in waiting)

        def advance(block: Block) -> None:
            nonlocal done
            done += block.shape[0] * block.shape[1]
            if progress is not None:
                progress(done, total)

        if cluster is None:
            for block in waiting:
                store.write(block.number, layout.pack(unmix_block(expert, run, cube, block, level=level)))
                advance(block)
        else:
            from tesela.mapping.abundance.blocks import run_blocks  # loads dask

            run_blocks(
                cluster,
                waiting,
                store,
                expert=expert,
                cube=cube,
                level=level,
                layout=layout,
                engine=name,
                advance=advance,
            )
        unseen = _assemble(
            store,
            blocks,
            out,
            grid=cube.grid,
            legend=legend,
            layout=layout,
            outputs=(classes, uncertainty, imputed),
            cube=cube,
            bands=expert.header.bands,
        )
        store.remove()
    return Unmixing(
        map=AbundanceMap(str(out), cube.grid, legend),
        engine=name,
        pixels=rows * cols,
        unseen=unseen,
        seconds=time.perf_counter() - started,
        resumed=resumed,
    )


def check_cube(expert: Expert, cube: Cube) -> None:
    """
    Check that a cube holds what an expert reads.

    Raises
    ------
    InputError
        Names what is missing.
    """
    series = series_of(expert.header)
    for kind, wanted, there in (
        ("bands", expert.header.bands, cube.bands),
        ("layers", series.layers, cube.layers),
    ):
        lacking = [name for name in wanted if name not in there]
        if lacking:
            raise InputError(
                f"{cube.path}: lacks the {kind} {join_words(lacking)} that the expert reads; it has "
                f"{join_words(there) or 'none'}. Build the cube with them (tesela mosaic)."
            )
    if cube.months != series.months:
        raise InputError(
            f"{cube.path}: its months are {join_words(cube.months)}, the expert's {join_words(series.months)}. "
            f"Build a cube of the same months, in this order."
        )


def _check_wishes(expert: Expert, cube: Cube, *, uncertainty: bool, imputed: bool) -> None:
    """Try the expert on one pixel without observations, before the work begins."""
    network = expert.network
    assert isinstance(network, UnmixingNetwork)
    side = 1 + 2 * network.margin_px
    series = series_of(expert.header)
    values = np.zeros((1, side, side, len(series.months), len(expert.header.bands)), np.float32)
    layers = np.zeros((1, side, side, len(series.layers)), np.float32)
    found = unmix(expert.header, TorchRunner(network), values, layers)
    summary = expert.header.architecture.summary
    if uncertainty and found.deviation is None:
        raise ExpertError(
            f"The expert ({summary}) cannot say how unsure it is, nor was it calibrated: train it again, calibrate it "
            f"(tesela.training.unmixing.calibration), or leave the uncertainty out."
        )
    if imputed and found.imputed is None:
        raise ExpertError(
            f"The expert ({summary}) fills no gaps: train BRITS, or leave the filled series out."
        )


def describe_cube(cube: Cube) -> dict[str, object]:
    """What the parts depend on of a cube."""
    return {
        "path": str(Path(cube.path).resolve()),
        "shape": [int(side) for side in cube.grid.shape],
        "times": list(cube.times),
        "bands": list(cube.bands),
        "layers": list(cube.layers),
        "written": Path(cube.path).stat().st_mtime_ns,
    }


def _assemble(
    store: PartStore,
    blocks: Sequence[Block],
    out: str | Path,
    *,
    grid: GeoBox,
    legend: Legend,
    layout: BlockLayout,
    outputs: tuple[str | Path | None, str | Path | None, str | Path | None],
    cube: Cube,
    bands: tuple[str, ...],
) -> int:
    """Write the parts into the output rasters; returns how many pixels were never observed."""
    classes, uncertainty, imputed = outputs
    unseen = 0
    with ExitStack() as stack:
        shares = stack.enter_context(AbundanceWriter(out, grid, legend))
        largest = None if classes is None else stack.enter_context(MapWriter(classes, grid, legend))
        spread = None
        if uncertainty is not None:
            one = ScoreWriter(uncertainty, grid, legend.codes, scale=1 / DEVIATION_STEPS, unit="share")
            spread = stack.enter_context(one)
        filled = None
        if imputed is not None:
            writer = CubeWriter(
                imputed, grid, times=cube.times, bands=bands, notes={"filled_from": cube.path}
            )
            filled = stack.enter_context(writer)
        for block in blocks:
            part = layout.unpack(store.read(block.number))
            unseen += int(part.unseen.sum())
            shares.write(block.row, block.col, part.shares)
            if largest is not None:
                largest.write(block.row, block.col, legend.value_table[part.shares.argmax(0)])
            if spread is not None:
                spread.write(block.row, block.col, part.deviation.astype(np.uint8))
            if filled is not None:
                filled.write(
                    block.row, block.col, part.series.reshape(len(cube.times), len(bands), *block.shape)
                )
    return unseen
