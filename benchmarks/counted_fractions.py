"""
What counting pixels costs beside exact shares: CORINE of Lanjaron on the MODIS grid.

    TESELA_DATA=../shared/data .venv/bin/python benchmarks/counted_fractions.py

Polygons in EPSG:25830, cells of 463.3 m on the sinusoidal grid, one thread. Prints JSON.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from tesela.io.legends import open_legend
from tesela.labels.fractions import Fractions, read_fractions

DATA = Path(os.environ.get("TESELA_DATA", "../shared/data")) / "lanjaron_l8_clc"
CELL_M = 463.3127165694
SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
CELLS = GeoBox(
    (42, 28),
    Affine(CELL_M, 0, -20015109.3558 + CELL_M * 42_523, 0, -CELL_M, 10007554.6779 - CELL_M * 12_709),
    SINUSOIDAL,
)


def shares(count_m: float | None) -> tuple[Fractions, float]:
    begun = time.process_time()
    found = read_fractions(
        DATA / "clc2018_lanjaron.gpkg",
        like=CELLS,
        legend=open_legend("corine-2"),
        layer="clc",
        field="CODE_18",
        count_m=count_m,
    )
    return found, time.process_time() - begun


def main() -> None:
    for count_m in (None, 50.0):
        shares(count_m)  # compile
    exact, seconds = shares(None)
    report: dict[str, object] = {"exact": {"cpu_seconds": round(seconds, 3)}}
    full = exact.cover > 1 - 1e-4
    true = exact.shares[:, full]
    present, small = true > 0, (true > 0) & (true < 0.01)
    for count_m in (10.0, 25.0, 50.0):
        counted, seconds = shares(count_m)
        off = np.abs(counted.shares[:, full] - true)
        report[f"{count_m:g} m"] = {
            "cells": int(full.sum()),
            "mean_error_of_a_present_class": round(float(off[present].mean()), 5),
            "largest_error": round(float(off.max()), 4),
            "shares_under_1_percent_lost": round(float((counted.shares[:, full][small] == 0).mean()), 3),
            "cpu_seconds": round(seconds, 3),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
