"""Blocks of an abundance map as tasks of Dask workers that share a file system."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tesela.core.errors import TeselaError
from tesela.io.cluster import run_tasks
from tesela.io.cube import Cube
from tesela.io.parts import PartStore
from tesela.mapping.abundance.blocks import Block, Layout, unmix_block
from tesela.mapping.abundance.engines import choose_runner
from tesela.models.answer import UnmixingNetwork
from tesela.models.applied import Runner
from tesela.models.expert import Expert, load_expert, save_expert


@dataclass(frozen=True)
class _Told:
    """What a worker is told with each block: little, for expert and cube lie in files."""

    cube: Cube
    output: str
    expert: str
    engine: str
    layout: Layout
    level: int | None


def run_blocks(
    address: str,
    blocks: Sequence[Block],
    store: PartStore,
    *,
    expert: Expert,
    cube: Cube,
    level: int | None,
    layout: Layout,
    engine: str,
    advance: Callable[[Block], None],
) -> None:
    """
    Make the parts of these blocks on the workers of a Dask scheduler; see `tesela.io.cluster.run_tasks`.

    The expert is written once beside the parts; each worker process loads it when its first block comes.
    """
    if not blocks:
        return
    model = save_expert(store.folder / "expert.safetensors", expert)
    told = _Told(
        replace(cube, path=str(Path(cube.path).resolve())),
        str(store.output.resolve()),
        str(model.resolve()),
        engine,
        layout,
        level,
    )
    by_number = {block.number: block for block in blocks}
    work = partial(_unmix, told=told)
    run_tasks(address, blocks, work, store=store, advance=lambda number: advance(by_number[number]))


_ready: dict[tuple[str, str, bool], tuple[Expert, Runner]] = {}
_one_at_a_time = threading.Lock()


def _unmix(block: Block, *, told: _Told) -> int | TeselaError:
    """Make one part, on a worker."""
    store = PartStore(told.output)  # not entered: the client holds its lock
    try:
        with _one_at_a_time:
            if not store.has(block.number):
                expert, run = _load(told)
                found = unmix_block(expert, run, told.cube, block, level=told.level)
                store.write(block.number, told.layout.pack(found))
    except TeselaError as error:
        return type(error)(str(error))
    return block.number


def _load(told: _Told) -> tuple[Expert, Runner]:
    """The expert of this process, loaded when it is first needed."""
    key = (told.expert, told.engine, told.layout.series > 0)
    if key not in _ready:
        _ready.clear()
        expert = load_expert(told.expert)
        assert isinstance(expert.network, UnmixingNetwork)
        run, _ = choose_runner(
            expert.network,
            expert.header.architecture,
            engine=told.engine,
            pixels=0,
            imputed=told.layout.series > 0,
        )
        _ready[key] = expert, run
    return _ready[key]
