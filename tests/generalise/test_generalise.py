"""Generalised maps keep the unit, invent no class, and do not depend on strips, threads or orientation."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from pixel_maps import (
    EDGES,
    LEGEND,
    ORIENTATIONS,
    WIDTHS,
    Values,
    areas_of,
    is_cut,
    landscape,
    maps,
    picture,
    read_all,
    written,
)
from tesela.core.errors import GridError, LegendError, RecipeError
from tesela.generalise import regions as regions_module
from tesela.generalise.generalise import generalise_map
from tesela.generalise.opening import Disc, find_narrow, open_classes
from tesela.generalise.strips import Plan
from tesela.generalise.unit import NO_CLASSES
from tesela.io import scratch as scratch_module
from tesela.io.legends import open_legend
from tesela.io.maps import ClassMap, write_map


def test_a_map_keeps_unit_and_width_and_the_log_explains_every_pixel(tmp_path: Path) -> None:
    truth, noisy = landscape(400)
    noisy[100:140, 200:260] = 0
    source = written(tmp_path, noisy)
    passes: list[tuple[int, int]] = []
    out, log = generalise_map(
        source,
        tmp_path / "out.tif",
        mmu_m2=20_000,
        min_width_m=60,
        narrow_out=tmp_path / "narrow.tif",
        progress=lambda done, total: passes.append((done, total)),
    )
    values = read_all(out)
    assert ((values == 0) == (noisy == 0)).all()
    left: dict[tuple[str, int], int] = {}
    for value, size, mask in areas_of(values):
        if size < 200:
            assert is_cut(values, mask)
            left[f"c{value}", size] = left.get((f"c{value}", size), 0) + 1
    assert sum(item.areas for item in log.below) == sum(left.values())
    assert sum(item.pixels for item in log.below) == sum(size * n for (_, size), n in left.items())
    assert {item.reason for item in log.below} <= {"edge", "nodata"}
    assert log.before == {f"c{v}": int((noisy == v).sum()) for v in range(1, 10)}
    assert log.after == {f"c{v}": int((values == v).sum()) for v in range(1, 10)}
    assert set(log.balance().values()) == {0}
    assert {move.reason for move in log.moves} == {"width", "unit"}
    narrow = read_all(ClassMap(str(tmp_path / "narrow.tif"), out.grid, LEGEND))
    assert {f"c{v}": int((narrow == v).sum()) for v in range(1, 10)} == log.narrow
    assert (narrow[narrow > 0] == values[narrow > 0]).all()
    assert sum(log.narrow.values()) < 0.005 * values.size
    assert (values == truth).mean() > (noisy == truth).mean() - 0.2
    assert passes[0][0] == 1
    assert passes[-1][0] == passes[-1][1]
    assert passes == sorted(passes)


def test_a_settled_map_is_not_changed_again(tmp_path: Path) -> None:
    options = {"mmu_m2": 20_000.0, "min_width_m": 60.0, "priority": "auto", "edges": "merge", "rounds": 30}
    legend = open_legend("corine-2")
    _, noisy = landscape(300, seed=4)
    source = written(tmp_path, np.array([0, *legend.values], np.uint8)[noisy], legend)
    first, log = generalise_map(source, tmp_path / "first.tif", mosaic=True, **options)  # type: ignore[arg-type]
    assert log.settled
    second, again = generalise_map(first, tmp_path / "second.tif", mosaic=True, **options)  # type: ignore[arg-type]
    assert (read_all(first) == read_all(second)).all()
    assert again.moves == ()
    assert again.settled
    assert again.rounds == 1


@settings(max_examples=25, deadline=None)
@given(
    maps(most_px=40),
    st.integers(1, 40),
    WIDTHS,
    EDGES,
    st.sampled_from(sorted(ORIENTATIONS)),
    st.integers(40, 400),
)
def test_the_whole_is_the_same_under_strips_turns_and_files(
    tmp_path_factory: pytest.TempPathFactory,
    values: Values,
    unit_px: int,
    width_px: float,
    edges: str,
    how: str,
    strip_px: int,
) -> None:
    folder = tmp_path_factory.mktemp("turns")
    turned = np.ascontiguousarray(ORIENTATIONS[how](values))

    def generalised(array: Values, name: str, plan: Plan) -> Values:
        out, log = generalise_map(
            written(folder, array, name=f"{name}-in.tif"),
            folder / f"{name}.tif",
            mmu_m2=unit_px * 100.0,
            min_width_m=width_px * 10,
            edges=edges,
            rounds=3,
            plan=plan,
        )
        assert set(log.balance().values()) == {0}
        return read_all(out)

    expected = generalised(values, "whole", Plan(1 << 20, 1))
    assert (generalised(turned, "turned", Plan(strip_px, 2)) == ORIENTATIONS[how](expected)).all()


def test_maps_too_large_for_memory_give_the_same_from_a_scratch_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, noisy = landscape(300, seed=2)
    source = written(tmp_path, noisy)
    expected, log = generalise_map(source, tmp_path / "a.tif", mmu_m2=10_000, min_width_m=40, rounds=2)
    monkeypatch.setattr(scratch_module, "IN_MEMORY_PX", 0)
    monkeypatch.setattr(regions_module, "KEEP_LABELS_PX", 0)
    again, same = generalise_map(
        source, tmp_path / "b.tif", mmu_m2=10_000, min_width_m=40, rounds=2, plan=Plan(9_000, 2)
    )
    assert (read_all(again) == read_all(expected)).all()
    assert same == log
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("mmu_m2", "kept"), [(200.0, True), (201.0, False), (200 * (1 + 1e-12), True)])
def test_an_area_meets_the_unit_if_it_is_at_least_as_large(tmp_path: Path, mmu_m2: float, kept: bool) -> None:
    values = picture("""
        1111
        1221
        1111""")
    out, _ = generalise_map(written(tmp_path, values), tmp_path / "out.tif", mmu_m2=mmu_m2)
    assert (read_all(out) == 2).any() == kept


def test_an_exempt_class_may_be_narrow_but_not_under_the_unit(tmp_path: Path) -> None:
    values = np.ones((40, 60), np.uint8)
    values[20:22, 5:25] = values[20:22, 40:42] = 2  # a river of 40 px, a pond of 4
    options = {"mmu_m2": 1000.0, "min_width_m": 100.0}
    out, _ = generalise_map(written(tmp_path, values), tmp_path / "a.tif", exempt=["c2"], **options)  # type: ignore[arg-type]
    expected = values.copy()
    expected[:, 40:42] = 1
    assert (read_all(out) == expected).all()
    out, _ = generalise_map(written(tmp_path, values), tmp_path / "b.tif", **options)  # type: ignore[arg-type]
    assert (read_all(out) == 1).all()


def test_auto_uses_the_table_of_the_legend(tmp_path: Path) -> None:
    legend = open_legend("corine-2")
    forest, scrub, water = (legend[code].value for code in ("31", "32", "51"))
    values = np.full((5, 6), water, np.uint8)
    values[:, 3:] = scrub
    values[2, 2] = forest  # three sides touch water, one scrub; scrub has the better rank
    source = written(tmp_path, values, legend)
    for priority, value in (("auto", scrub), (None, water)):
        out, _ = generalise_map(source, tmp_path / "out.tif", mmu_m2=200, priority=priority)
        assert read_all(out)[2, 2] == value


def test_an_area_at_the_edge_and_beside_nodata_is_reported_as_cut_by_the_edge(tmp_path: Path) -> None:
    values = picture("""
        2.111
        11111
        11.31""")
    _, log = generalise_map(written(tmp_path, values), tmp_path / "out.tif", mmu_m2=300)
    assert [(item.code, item.reason) for item in log.below] == [("c2", "edge"), ("c3", "edge")]
    values = picture("""
        11111
        12.11
        11111""")
    _, log = generalise_map(written(tmp_path, values), tmp_path / "out.tif", mmu_m2=300)
    assert [(item.code, item.reason) for item in log.below] == [("c2", "nodata")]


def test_an_area_of_one_class_alone_is_named_as_such(tmp_path: Path) -> None:
    source = written(tmp_path, np.full((5, 4), 7, np.uint8))
    out, log = generalise_map(source, tmp_path / "out.tif", mmu_m2=250_000, edges="merge")
    assert [(item.code, item.reason, item.areas, item.pixels) for item in log.below] == [
        ("c7", "alone", 1, 20)
    ]
    assert (read_all(out) == 7).all()


def test_a_map_of_nodata_stays_one(tmp_path: Path) -> None:
    source = written(tmp_path, np.zeros((30, 30), np.uint8))
    out, log = generalise_map(source, tmp_path / "out.tif", mmu_m2=250_000, min_width_m=100, rounds=2)
    assert not read_all(out).any()
    assert log.below == ()
    assert log.moves == ()


def test_the_log_is_written_as_a_table_or_a_document(tmp_path: Path) -> None:
    source = written(
        tmp_path,
        picture("""
        11111
        12311
        11111"""),
    )
    _, log = generalise_map(source, tmp_path / "out.tif", mmu_m2=200)
    with log.write(tmp_path / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    moves = [row for row in rows if row["kind"] == "move"]
    assert [(row["source"], row["target"], row["areas"], row["area_m2"]) for row in moves] == [
        ("c2", "c1", "1", "100.0"),
        ("c3", "c1", "1", "100.0"),
    ]
    document = json.loads(log.write(tmp_path / "log.json").read_text(encoding="utf-8"))
    assert document["before"]["c1"] == 13
    assert document["after"]["c1"] == 15
    assert document["moves"][0]["reason"] == "unit"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mmu_m2": -1.0}, "must not be negative"),
        ({"mmu_m2": 1.0, "edges": "cut"}, 'edges is "cut" and must be "keep" or "merge"'),
        ({"mmu_m2": 1.0, "rounds": 0}, "rounds is 0 and must be at least 1"),
    ],
)
def test_options_out_of_range_are_named(tmp_path: Path, options: dict[str, float], message: str) -> None:
    source = written(tmp_path, np.ones((4, 4), np.uint8))
    with pytest.raises(RecipeError, match=message):
        generalise_map(source, tmp_path / "out.tif", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out.tif").exists()


def test_maps_in_degrees_or_with_oblong_pixels_are_refused(tmp_path: Path) -> None:
    values = np.ones((4, 4), np.uint8)
    degrees = write_map(
        tmp_path / "d.tif", values, GeoBox((4, 4), Affine(0.1, 0, 5, 0, -0.1, 40), "EPSG:4326"), legend=LEGEND
    )
    with pytest.raises(GridError, match="Generalising needs a map in a projected CRS"):
        generalise_map(degrees, tmp_path / "out.tif", mmu_m2=1)
    oblong = write_map(
        tmp_path / "o.tif",
        values,
        GeoBox((4, 4), Affine(10, 0, 0, 0, -20, 4e6), "EPSG:25830"),
        legend=LEGEND,
    )
    with pytest.raises(GridError, match="needs square ones"):
        generalise_map(oblong, tmp_path / "out.tif", mmu_m2=1, min_width_m=100)
    assert generalise_map(oblong, tmp_path / "out.tif", mmu_m2=1)[1].pixel_m2 == 200


def test_an_exempt_class_that_the_legend_lacks_is_named(tmp_path: Path) -> None:
    source = written(tmp_path, np.ones((4, 4), np.uint8))
    with pytest.raises(RecipeError, match="is read, and would be replaced"):
        generalise_map(source, source.path, mmu_m2=1)
    with pytest.raises(LegendError, match="Unknown code 'c99'"):
        generalise_map(source, tmp_path / "out.tif", mmu_m2=1, min_width_m=100, exempt=["c99"])


@pytest.mark.real
def test_corine_of_lanjaron_rasterised_and_noised_comes_back_within_the_standard(
    lanjaron: Path, tmp_path: Path
) -> None:
    import geopandas as gpd
    from rasterio.features import rasterize

    frame = gpd.read_file(lanjaron / "clc2018_lanjaron.gpkg", layer="clc")
    legend = open_legend("corine-3")
    left, bottom, _, top = frame.total_bounds
    shape = (int((top - bottom) / 10), 900)
    grid = GeoBox(shape, Affine(10, 0, left, 0, -10, top), "EPSG:25830")
    values = [legend[str(code)].value for code in frame["CODE_18"]]
    truth = rasterize(zip(frame.geometry, values, strict=True), out_shape=shape, transform=grid.affine)
    truth = truth.astype(np.uint8)
    rng = np.random.default_rng(5)
    noisy = np.where(
        (rng.random(shape) < 0.1) & (truth > 0),
        rng.choice(np.array(sorted(set(values)), np.uint8), shape),
        truth,
    )
    cleaned = {}
    for name, values_in in (("truth", truth), ("noisy", noisy.astype(np.uint8))):
        source = write_map(tmp_path / f"{name}.tif", values_in, grid, legend=legend)
        out, log = generalise_map(
            source, tmp_path / f"{name}-out.tif", mmu_m2=250_000, min_width_m=100, priority="auto"
        )
        assert log.settled
        assert set(log.balance().values()) == {0}
        cleaned[name] = read_all(out)
        for _, size, mask in areas_of(cleaned[name]):
            assert size >= 2500 or is_cut(cleaned[name], mask)
    mapped = truth > 0
    assert (noisy == truth)[mapped].mean() < 0.92
    assert (cleaned["noisy"] == cleaned["truth"])[mapped].mean() > 0.97
    assert (cleaned["noisy"] == truth)[mapped].mean() > 0.93  # CORINE itself has 4 % of narrow pixels here
    disc = Disc(10.0)
    padded = np.pad(cleaned["noisy"], 12, mode="edge")
    opened = open_classes(padded, disc.half_runs, disc.side_px)
    narrow = find_narrow(padded, opened, disc.corner_steps, NO_CLASSES)[12:-12, 12:-12]
    assert narrow.mean() < 0.002
