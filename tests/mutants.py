"""
Planted mistakes in the core algorithms: each must make a test fail. Run it with `make mutants`.

    python tests/mutants.py [--only WORD] [--jobs N] [--list]

For each mutant the package is copied to a temporary folder, one text is replaced there, and the named tests run
against the copy. A mutant that no test notices is a survivor: write the missing test. Pytest does not collect this
file, and CI does not run it.
"""
# ruff: noqa: T201, a script prints its results

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from repository import ROOT, SOURCE, TESTS

TIMEOUT_S = 600.0
"""A mutant that loops for so long is noticed."""


@dataclass(frozen=True)
class Mutant:
    """One planted mistake."""

    file: str
    """Below src/tesela."""
    old: str
    """Text that stands there exactly once."""
    new: str
    breaks: str
    """What is wrong then."""
    tests: tuple[str, ...]
    """Node ids below tests/ of which one at least must fail."""


def mutant(file: str, old: str, new: str, breaks: str, *tests: str) -> Mutant:
    return Mutant(file, old, new, breaks, tests)


SENTINEL, MOSAIC, SENSORS = "sources/test_sentinel2.py", "sources/test_mosaic.py", "sources/test_sensors.py"
MODIS, TERRAIN = "sources/test_modis.py", "sources/test_ancillary.py"
LABELS, FRACTIONS, SIOSE = "labels/test_labels.py", "labels/test_fractions.py", "labels/test_siose.py"
CORE = "core/test_core.py"

MUTANTS = (
    # legend and crosswalk
    mutant(
        "core/legend.py",
        "table[item.value] = self.ancestor(item.code, depth).value",
        "table[item.value] = self[item.code].value",
        "a map at a coarser level keeps its fine values",
        f"{CORE}::test_every_class_lies_in_one_class_of_every_coarser_level",
    ),
    mutant(
        "core/legend.py",
        "table[list(self.values)] = np.arange(len(self.classes), dtype=np.uint8)",
        "table[list(self.values)] = np.arange(1, len(self.classes) + 1, dtype=np.uint8)",
        "positions of classes are one too high",
        f"{CORE}::test_positions_and_values_are_each_others_inverse",
    ),
    mutant(
        "core/crosswalk.py",
        "row.share > best[row.code].share",
        "row.share >= best[row.code].share",
        "of equal shares the last row wins",
        f"{CORE}::test_an_even_split_goes_to_the_first_row",
    ),
    mutant(
        "core/crosswalk.py",
        "abs(total - 1) > 1e-6",
        "total - 1 > 1e-6",
        "shares may sum to less than 1",
        f"{CORE}::test_a_crosswalk_keeps_to_its_legend_and_its_shares_sum_to_one",
    ),
    mutant(
        "core/crosswalk.py",
        "shares.get((row.code, to), 0.0) + row.share",
        "row.share",
        "shares of one coarse class are not added up",
        f"{CORE}::test_a_crosswalk_can_be_cut_at_a_coarser_level",
    ),
    # exact and counted fractions
    mutant(
        "core/coverage.py",
        "right[plane, row, col + 1] += weight * piece",
        "right[plane, row, col + 1] += weight * tall",
        "long edges add too much to the cells on their right",
        f"{FRACTIONS}::test_fractions_equal_the_overlay_of_shapely_on_random_coverages",
    ),
    mutant(
        "core/coverage.py",
        "(twice < 0.0) != hole",
        "(twice < 0.0)",
        "holes are filled or not by the direction of their ring",
        f"{FRACTIONS}::test_a_hole_belongs_to_the_polygon_that_fills_it",
        f"{FRACTIONS}::test_rings_may_run_either_way_and_multipolygons_have_parts",
    ),
    mutant(
        "labels/fractions.py",
        "np.divide(areas, cover, out=shares, where=cover > 0)",
        "np.copyto(shares, areas, where=cover > 0)",
        "shares of partly covered cells do not sum to 1",
        f"{FRACTIONS}::test_a_layer_becomes_an_abundance_map_that_is_read_back",
        f"{FRACTIONS}::test_cells_covered_too_little_have_no_data",
        f"{FRACTIONS}::test_a_crosswalk_shares_out_what_it_splits_and_leaves_out_what_it_drops",
    ),
    mutant(
        "labels/fractions.py",
        "MIN_COVER = 0.5",
        "MIN_COVER = 0.0",
        "cells that are hardly covered get shares",
        f"{FRACTIONS}::test_cells_covered_too_little_have_no_data",
    ),
    mutant(
        "labels/codes.py",
        "weights[number, legend.codes.index(to)] += share",
        "weights[number, legend.codes.index(to)] += 1 / len(mix)",
        "split codes are shared out evenly",
        f"{FRACTIONS}::test_a_crosswalk_shares_out_what_it_splits_and_leaves_out_what_it_drops",
        f"{FRACTIONS}::test_a_crosswalk_splits_the_numbers_of_a_raster_too",
    ),
    mutant(
        "labels/shares.py",
        "left + 0.5 + reach * np.arange(",
        "left + reach * np.arange(",
        "corners of pixels are counted, not centres",
        f"{FRACTIONS}::test_counting_gives_the_share_of_pixels_whose_centre_a_class_holds",
        f"{FRACTIONS}::test_a_raster_is_counted_by_its_pixels_and_split_codes_are_shared_out",
    ),
    mutant(
        "labels/shares.py",
        "return counts / pixels",
        "return counts / pixels.max()",
        "cells with fewer pixels get too small a share",
        f"{FRACTIONS}::test_cells_that_are_no_multiple_of_the_pixels_hold_more_or_fewer_of_them",
    ),
    # labels
    mutant(
        "labels/polygons.py",
        "cols = to_pixel.a * x + to_pixel.b * y + to_pixel.c",
        "cols = to_pixel.a * x + to_pixel.b * y + to_pixel.c + 0.5",
        "labels lie half a pixel to the east",
        f"{LABELS}::test_a_pixel_takes_the_class_of_the_polygon_at_its_centre",
    ),
    mutant(
        "labels/polygons.py",
        "pairs = zip(shapes, values.tolist(), strict=True)",
        "pairs = zip(shapes[::-1], values.tolist()[::-1], strict=True)",
        "of two overlapping polygons the first wins",
        f"{LABELS}::test_the_later_of_two_overlapping_polygons_wins",
    ),
    mutant(
        "labels/polygons.py",
        "return math.sqrt(_ERROR_PX * pixel / curvature) if curvature > 0 else None",
        "return None",
        "long edges stay straight in another projection",
        f"{LABELS}::test_long_edges_are_bent_by_the_projection_as_on_the_globe",
    ),
    mutant(
        "labels/codes.py",
        "if any(way[number] != fitting[0][number] for way in fitting for number in present):",
        "if False:",
        "numbers of an unclear level are read by guess",
        f"{LABELS}::test_a_raster_whose_level_is_not_clear_asks_for_it",
    ),
    mutant(
        "labels/rasters.py",
        "valid = valid & ~np.isnan(numbers)",
        "valid = valid | np.isnan(numbers)",
        "NaN becomes a class",
        f"{LABELS}::test_class_numbers_may_be_stored_as_floats_but_not_be_fractions",
    ),
    mutant(
        "sources/siose/rules.py",
        'codes[dehesa & dense] = "forest"',
        'codes[dehesa & ~dense] = "forest"',
        "open dehesa becomes forest",
        f"{SIOSE}::test_wooded_pasture_is_forest_from_the_least_canopy_on",
    ),
    mutant(
        "sources/siose/rules.py",
        'best["percent"] >= 100 * self.rules.min_share',
        'best["percent"] >= self.rules.min_share',
        "the minimum share of a class is ignored",
        f"{SIOSE}::test_majority_takes_the_largest_cover_and_composite_the_largest_class",
    ),
    mutant(
        "sources/siose/classes.py",
        "area_m2 >= self.classifier.rules.min_area_m2",
        "area_m2 >= 0",
        "the minimum area of polygons is ignored",
        f"{SIOSE}::test_small_and_strange_polygons_are_counted_not_drawn",
    ),
    # mosaics
    mutant(
        "sources/mosaic/compositing.py",
        "held[(n - 1) // 2]",
        "held[n // 2]",
        "the median of an even number is the upper one",
        f"{SENTINEL}::test_the_median_is_taken_by_band_over_what_is_there",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "score[k, row, col] > score[chosen, row, col]",
        "score[k, row, col] < score[chosen, row, col]",
        "the worst pixel is taken as the best",
        f"{SENTINEL}::test_the_best_pixel_has_the_highest_score",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "total[k] < total[chosen]",
        "total[k] > total[chosen]",
        "the medoid is the pixel farthest from the others",
        f"{SENTINEL}::test_the_medoid_is_one_whole_observation",
    ),
    mutant(
        "sources/mosaic/compositing.py",
        "np.exp(-0.5 * (days",
        "np.exp(-1.0 * (days",
        "the date counts more than Griffiths' score says",
        f"{SENTINEL}::test_the_best_pixel_has_the_highest_score",
    ),
    mutant(
        "sources/mosaic/tiles.py",
        "np.rint(raw * (scale * 10_000) + offset * 10_000)",
        "np.rint(raw * (scale * 10_000))",
        "the offset of a scene is ignored",
        f"{SENTINEL}::test_nodata_is_masked_before_the_offset_is_added",
        f"{SENSORS}::test_a_second_sensor_is_one_class",
    ),
    mutant(
        "sources/mosaic/tiles.py",
        "np.rint(raw * (scale * 10_000) + offset * 10_000)",
        "np.rint(raw + offset * 10_000)",
        "the scale of a sensor is ignored",
        f"{SENSORS}::test_a_second_sensor_is_one_class",
    ),
    mutant(
        "sources/mosaic/tiles.py",
        "np.where(valid & (raw > 0), np.clip(values, 1, 65_535), 0)",
        "np.where(valid & (raw > 0), np.clip(values, 0, 65_535), 0)",
        "dark pixels become nodata",
        f"{SENTINEL}::test_nodata_is_masked_before_the_offset_is_added",
    ),
    mutant(
        "sources/mosaic/tiles.py",
        "(distance_m > buffer_m)",
        "(distance_m > 0)",
        "the buffer around clouds is ignored",
        f"{SENTINEL}::test_the_buffer_reaches_beyond_clouds_but_not_beyond_dark_areas",
    ),
    mutant(
        "sources/mosaic/tiles.py",
        "if value in options.masked]",
        "]",
        "a class that is kept still casts a buffer",
        f"{SENSORS}::test_options_are_those_of_the_sensor",
    ),
    mutant(
        "sources/mosaic/tiles.py",
        "lacking = (stack == 0).any(axis=1)",
        "lacking = (stack == 0).all(axis=1)",
        "observations that lack a band count",
        f"{MOSAIC}::test_an_observation_that_lacks_a_band_does_not_count",
    ),
    mutant(
        "sources/mosaic/tiles.py",
        "new = valid & (source < 0)",
        "new = valid",
        "where two tiles of a pass overlap the last shows",
        f"{MOSAIC}::test_where_two_tiles_of_a_pass_overlap_the_first_gives_the_pixel",
    ),
    mutant(
        "sources/mosaic/scenes.py",
        "_rank(granule) > _rank(held)",
        "_rank(granule) < _rank(held)",
        "the oldest processing of a scene is taken",
        f"{SENTINEL}::test_of_two_processings_the_newer_one_stays",
    ),
    mutant(
        "sources/mosaic/scenes.py",
        "granule.cloud_percent > max_cloud",
        "granule.cloud_percent < max_cloud",
        "clear scenes are left out instead of cloudy ones",
        f"{MOSAIC}::test_cloudy_scenes_are_left_out_with_the_reason",
    ),
    mutant(
        "sources/sentinel2/sensor.py",
        "OFFSET if baseline >= OFFSET_BASELINE else 0.0",
        "OFFSET if baseline > OFFSET_BASELINE else 0.0",
        "baseline 04.00 gets no offset",
        f"{SENTINEL}::test_the_offset_is_read_as_each_provider_states_it",
    ),
    mutant(
        "sources/sentinel2/sensor.py",
        "granule.offset < 0 and low < _TOO_DARK",
        "granule.offset < 0 and low < -1",
        "an offset that was applied twice is not noticed",
        f"{SENTINEL}::test_dark_plants_tell_the_right_offset",
    ),
    mutant(
        "sources/sentinel2/sensor.py",
        "masked=(0, 1, 2, 3, 8, 9, 10)",
        "masked=(0, 1, 2, 3, 9, 10)",
        "medium clouds are not masked",
        f"{MOSAIC}::test_pixels_are_the_median_of_clear_views_and_gaps_stay_nodata",
    ),
    # MODIS
    mutant(
        "sources/modis/quality.py",
        "np.uint32(4 * band - 2)",
        "np.uint32(4 * band - 3)",
        "the quality bits of a band are read one bit too low",
        f"{MODIS}::test_each_band_has_four_bits_of_its_own",
    ),
    mutant(
        "sources/modis/quality.py",
        "(rule.internal_cloud, (10,))",
        "(rule.internal_cloud, (11,))",
        "the internal cloud flag is ignored",
        f"{MODIS}::test_the_state_bits_mean_what_the_guide_says",
    ),
    mutant(
        "sources/modis/quality.py",
        "(field(state, 8, 2) <= rule.cirrus) & (field(state, 6, 2) <= rule.aerosol)",
        "(field(state, 6, 2) <= rule.cirrus) & (field(state, 8, 2) <= rule.aerosol)",
        "cirrus and aerosol are swapped",
        f"{MODIS}::test_the_state_bits_mean_what_the_guide_says",
    ),
    mutant(
        "sources/modis/quality.py",
        "VALID_RANGE = (-100, 16_000)",
        "VALID_RANGE = (-30_000, 16_000)",
        "the fill value is a reflectance",
        f"{MODIS}::test_numbers_outside_the_valid_range_are_gaps",
    ),
    mutant(
        "sources/modis/months.py",
        "year = start.year + (number < first)",
        "year = start.year",
        "days after New Year fall in the old year",
        f"{MODIS}::test_a_composite_over_new_year_fills_both_years",
    ),
    mutant(
        "sources/modis/months.py",
        'if merge == "observations":',
        'if merge == "satellites":',
        "Terra and Aqua are merged by the other rule",
        f"{MODIS}::test_a_month_is_the_mean_of_the_means_of_both_satellites",
    ),
    mutant(
        "sources/ancillary.py",
        "south = (smooth_x[2:] - smooth_x[:-2]) / (8 * high)",
        "south = (smooth_x[2:] - smooth_x[:-2]) / (4 * high)",
        "slopes to the south are twice as steep",
        f"{TERRAIN}::test_a_plane_has_one_slope_everywhere",
    ),
)


def main() -> int:
    """Run the mutants and list the survivors; 1 if there are any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="Mutants whose file or description holds this text.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--list", action="store_true", help="List them, check that they apply, and run nothing."
    )
    options = parser.parse_args()
    chosen = [one for one in MUTANTS if options.only in f"{one.file} {one.breaks}"]
    broken = [one for one in chosen if (SOURCE / one.file).read_text(encoding="utf-8").count(one.old) != 1]
    for one in broken:
        print(f"does not apply: {one.file}: not exactly once: {one.old!r}", flush=True)
    if options.list:
        for one in chosen:
            print(f"{one.file}: {one.breaks}")
        print(f"{len(chosen)} mutants, {len(broken)} do not apply")
        return 1 if broken else 0
    if broken:
        return 1
    started = time.monotonic()
    if not untouched_tests_pass(chosen):
        print("The tests fail without any mutant: nothing can be learned from them.")
        return 1
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(run, chosen))
    bad = [one for one, outcome in zip(chosen, outcomes, strict=True) if outcome != "killed"]
    print(f"{len(chosen) - len(bad)} of {len(chosen)} mutants noticed in {time.monotonic() - started:.0f} s")
    for one in bad:
        print(f"survivor: {one.file}: {one.breaks}")
    return 1 if bad else 0


def untouched_tests_pass(mutants: list[Mutant]) -> bool:
    """Whether all named tests pass with the package as it is."""
    tests = sorted({test for one in mutants for test in one.tests})
    with tempfile.TemporaryDirectory(prefix="tesela-mutant-") as folder:
        copy_package(Path(folder))
        code, text = run_tests(Path(folder), tests)
    if code != 0:
        print(text)
    return code == 0


def run(one: Mutant) -> str:
    """Outcome of a mutant: "killed", "survived" or "error"."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tesela-mutant-") as folder:
        package = copy_package(Path(folder))
        plant(one, package)
        code, text = run_tests(Path(folder), one.tests)
    outcome = {0: "survived", 1: "killed", 124: "killed"}.get(code, "error")
    print(f"{outcome:9} {time.monotonic() - started:5.1f} s  {one.file}: {one.breaks}", flush=True)
    if outcome == "error":
        print(text)
    return outcome


def copy_package(folder: Path) -> Path:
    """Copy the package with its compiled kernels, times of the files kept."""
    return Path(shutil.copytree(SOURCE, folder / "tesela"))


def plant(one: Mutant, package: Path) -> None:
    """Replace the text, and forget what was compiled of this file and of those that import it."""
    path = package / one.file
    text = path.read_text(encoding="utf-8")
    if text.count(one.old) != 1:
        raise SystemExit(f"{one.file}: not exactly once: {one.old!r}")
    path.write_text(text.replace(one.old, one.new), encoding="utf-8")
    texts = {other: other.read_text(encoding="utf-8") for other in package.rglob("*.py")}
    stale, added = {path}, {path}
    while added:
        names = [".".join(other.relative_to(package.parent).with_suffix("").parts) for other in added]
        pattern = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in names))
        added = {other for other, content in texts.items() if other not in stale and pattern.search(content)}
        stale |= added
    for other in stale:
        for compiled in (other.parent / "__pycache__").glob(f"{other.stem}.*"):
            compiled.unlink()


def run_tests(folder: Path, tests: tuple[str, ...] | list[str]) -> tuple[int, str]:
    """Exit code and output of pytest with the package of a folder; 124 after `TIMEOUT_S`."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command = [*words, *(str(TESTS / test) for test in tests)]
    check = (
        "import pathlib, sys, tesela; sys.exit(not pathlib.Path(tesela.__file__).is_relative_to(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", check, str(folder)], env=environment, cwd=ROOT, check=True)
    try:
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, ""
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


if __name__ == "__main__":
    sys.exit(main())
