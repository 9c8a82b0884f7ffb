"""Costs of windows: how much dearer or cheaper than the largest one each size is, on the engine in use."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from tesela.core.errors import InputError
from tesela.io.manifest import write_whole
from tesela.mapping.cover import Sizes
from tesela.mapping.engines import Engine
from tesela.models.expert import Expert

_FIXED_PX = 16_384
"""Unmeasured, a window costs its pixels and this many more."""


def usual_costs(expert: Expert, engine: Engine, sizes: Sizes) -> tuple[float, ...]:
    """
    Costs of window sizes for an expert on this machine: measured once, then remembered.

    Equal costs make equal covers, so that a cascade that is run again makes the same bytes. They are kept by
    processor, threads, engine, kind of network and sizes, in ``tesela/costs.json`` in the user's cache folder
    (``XDG_CACHE_HOME``, or ``~/.cache``).
    """
    header = expert.header
    described = [
        platform.processor() or platform.machine(),
        os.cpu_count(),
        torch.get_num_threads(),
        torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        engine.name,
        type(expert.network).__name__,
        header.architecture.to_dict(),
        [sizes.window(size) for size in range(len(sizes))],
    ]
    key = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]
    file = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tesela" / "costs.json"
    known = _read(file)
    found = known.get(key)
    if isinstance(found, list) and len(found) == len(sizes):
        return tuple(float(cost) for cost in found)
    measured = measure_costs(engine, sizes, bands=len(header.bands))
    try:
        with write_whole(file) as part:
            part.write_text(json.dumps({**_read(file), key: measured}, indent=1), encoding="utf-8")
    except (InputError, OSError):
        pass  # a folder that cannot be written to: measured anew next time
    return measured


def measure_costs(engine: Engine, sizes: Sizes, *, bands: int) -> tuple[float, ...]:
    """
    Cost of a window of each size on an engine, as a share of that of the largest, in full batches.

    The cost per pixel relative to the largest window is rounded to eighths, so that clocks that differ a little give
    the same.
    """
    random = np.random.default_rng(0)
    seconds = []
    for size in range(len(sizes)):
        shape = (sizes.batch(size, engine), *sizes.window(size), bands)
        images = random.standard_normal(shape, np.float32)
        engine.scores(images)  # sets up
        best = float("inf")
        for _ in range(3):
            begun = time.perf_counter()
            engine.scores(images)
            best = min(best, time.perf_counter() - begun)
        seconds.append(best / images[..., 0].size)
    areas = [float(np.prod(sizes.window(size))) for size in range(len(sizes))]
    ratios = [max(0.125, round(8 * each / seconds[0]) / 8) for each in seconds]
    return tuple(ratio * area / areas[0] for ratio, area in zip(ratios, areas, strict=True))


def guess_costs(sizes: Sizes) -> tuple[float, ...]:
    """Costs as `measure_costs` gives them, from pixels alone, for jobs too small to measure."""
    costs = [float(np.prod(sizes.window(size))) + _FIXED_PX for size in range(len(sizes))]
    return tuple(cost / costs[0] for cost in costs)


def _read(file: Path) -> dict[str, object]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
