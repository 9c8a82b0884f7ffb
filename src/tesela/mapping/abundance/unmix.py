"""Unmixing: one expert applied to one cube makes one abundance map."""

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
from tesela.io.abundance import AbundanceMap, AbundanceWriter, band_names
from tesela.io.cube import Cube
from tesela.io.cube_writer import CubeWriter, check_target
from tesela.io.manifest import record_step
from tesela.io.maps import MapWriter, ScoreWriter
from tesela.io.outputs import check_file_outputs, check_raster_names
from tesela.io.parts import PartStore
from tesela.mapping.abundance.blocks import (
    DEVIATION_STEPS,
    Block,
    BlockLayout,
    make_blocks,
    run_blocks,
    trial_series,
    unmix_block,
)
from tesela.mapping.abundance.engines import choose_runner
from tesela.mapping.predict import fingerprint_network
from tesela.models.expert import Expert
from tesela.models.inference import TorchRunner, prior_of, series_of, unmix
from tesela.models.output import UnmixingNetwork
from tesela.models.unmixing_header import Floats

Progress = Callable[[int, int], None]
"""Called with the pixels done and the pixels in total."""


@dataclass(frozen=True)
class Unmixing:
    """An abundance map, and how it was made."""

    map: AbundanceMap
    engine: str
    pixels: int
    """All pixels."""
    unseen: int
    """Pixels without any observation, which have no shares."""
    seconds: float
    resumed: int
    """Blocks that an earlier run left."""


def unmix_cube(
    expert: Expert,
    cube: Cube,
    out: str | Path,
    *,
    level: int | None = None,
    classes: str | Path | None = None,
    uncertainty: str | Path | None = None,
    prior: str | Path | None = None,
    imputed: str | Path | None = None,
    engine: str = "auto",
    memory: str | int = "512 MiB",
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Unmixing:
    """
    Apply an unmixing expert to a cube of any size.

    Finished blocks are kept beside the output. After a crash the same call continues, and writes the same bytes.
    Pixels without any observation are nodata in all outputs, and are counted.

    Parameters
    ----------
    expert : Expert
        Its bands, months and layers are taken from the cube by name and order.
    level : int, optional
        Coarser level of the expert's legend to write; its shares are sums over the classes below.
    classes, uncertainty : path, optional
        Rasters to write in the same pass: the class with the largest share, and the standard deviation of each share.
    prior : path, optional
        Abundance map to write of the pixels without any observation: the mean shares of the training pixels, nodata in
        all other pixels.
    imputed : path, optional
        Cube to write with the gaps filled, for experts that fill them.
    engine : {"auto", "torch", "openvino", "cuda"}
        What runs the network, "cuda" on an NVIDIA GPU; see `tesela.mapping.abundance.engines`.
    memory : str or int
        Memory of a block, such as "256 MiB", or bytes.
    cluster : str, optional
        "local", or the address of a Dask scheduler whose workers share the file system.

    Raises
    ------
    ExpertError
        If the expert is for another task, or has no uncertainty or filled series.
    InputError
        If the cube lacks a band, month or layer, or the output cannot be written.
    """
    started = time.perf_counter()
    series_of(expert.header)
    network = expert.network
    assert isinstance(network, UnmixingNetwork)
    legend = expert.header.legend if level is None else expert.header.legend.level(level)
    check_file_outputs([out, classes, uncertainty, prior, imputed], inputs=[cube.path])
    check_raster_names([out, classes, uncertainty, prior])
    if imputed is not None:
        check_target(Path(imputed))
    check_cube(expert, cube)
    _check_options(expert, cube, uncertainty=uncertainty is not None, imputed=imputed is not None)
    rows, cols = (int(side) for side in cube.grid.shape)
    run, name = choose_runner(
        network,
        expert.header.architecture,
        engine=engine,
        pixels=rows * cols,
        imputed=imputed is not None,
        trial=lambda: trial_series(expert, cube),
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
            prior=None if prior is None else (prior, prior_of(expert.header, level=level)),
            cube=cube,
            bands=expert.header.bands,
        )
        store.remove()
    record_step(
        "unmix",
        [out, classes, uncertainty, prior, imputed],
        inputs=[expert.path, cube.path],
        settings={"model": expert.header.architecture.summary, "engine": name},
        legend=legend.address,
    )
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
    Check that a cube has the bands, layers and months that an expert needs.

    Raises
    ------
    InputError
        If something is missing; the message names it.
    """
    series = series_of(expert.header)
    for kind, wanted, available in (
        ("bands", expert.header.bands, cube.bands),
        ("layers", series.layers, cube.layers),
    ):
        lacking = [name for name in wanted if name not in available]
        if lacking:
            raise InputError(
                f"{cube.path}: lacks the {kind} {join_words(lacking)} that the expert needs; it has "
                f"{join_words(available) or 'none'}. Build the cube with them (tesela mosaic)."
            )
    if cube.months != series.months:
        raise InputError(
            f"{cube.path}: its months are {join_words(cube.months)}, but the expert needs {join_words(series.months)}. "
            f"Build a cube of these months, in this order."
        )


def _check_options(expert: Expert, cube: Cube, *, uncertainty: bool, imputed: bool) -> None:
    """Run the expert on one pixel without observations, to see which outputs it has."""
    network = expert.network
    assert isinstance(network, UnmixingNetwork)
    side = 1 + 2 * network.margin_px
    series = series_of(expert.header)
    values = np.zeros((1, side, side, len(series.months), len(expert.header.bands)), np.float32)
    layers = np.zeros((1, side, side, len(series.layers)), np.float32)
    unmixed = unmix(expert.header, TorchRunner(network), values, layers)
    summary = expert.header.architecture.summary
    if uncertainty and unmixed.deviation is None:
        raise ExpertError(
            f"The expert ({summary}) has no uncertainty and was not calibrated. Train it again, calibrate it "
            f"(tesela.training.unmixing.calibration), or leave the uncertainty out."
        )
    if imputed and unmixed.imputed is None:
        raise ExpertError(
            f"The expert ({summary}) does not fill gaps. Train BRITS, or leave the filled series out."
        )


def describe_cube(cube: Cube) -> dict[str, object]:
    """Properties of a cube on which the parts depend."""
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
    prior: tuple[str | Path, Floats] | None,
    cube: Cube,
    bands: tuple[str, ...],
) -> int:
    """Write the parts into the output rasters; return the number of pixels without any observation."""
    classes, uncertainty, imputed = outputs
    unseen = 0
    with ExitStack() as stack:
        shares = stack.enter_context(AbundanceWriter(out, grid, legend))
        largest = None if classes is None else stack.enter_context(MapWriter(classes, grid, legend))
        spread = None
        if uncertainty is not None:
            one = ScoreWriter(
                uncertainty, grid, band_names(legend), scale=1 / DEVIATION_STEPS, unit="share", most=0.25
            )
            spread = stack.enter_context(one)
        usual = None if prior is None else stack.enter_context(AbundanceWriter(prior[0], grid, legend))
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
                values = legend.value_table[part.shares.argmax(0)]
                largest.write(block.row, block.col, np.where(part.unseen, 0, values).astype(values.dtype))
            if spread is not None:
                spread.write(block.row, block.col, part.deviation.astype(np.uint8))
            if usual is not None and prior is not None:
                shares_there = np.where(part.unseen, prior[1][:, None, None], np.float32(np.nan))
                usual.write_shares(block.row, block.col, shares_there)
            if filled is not None:
                filled.write(
                    block.row, block.col, part.series.reshape(len(cube.times), len(bands), *block.shape)
                )
    return unseen
