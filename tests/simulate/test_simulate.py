"""The virtual region: what it promises about truth, images and reference."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import label

from tesela.core.errors import InputError, TeselaError
from tesela.io.legends import open_legend
from tesela.io.maps import MapReader, open_map
from tesela.io.raster import open_dataset
from tesela.io.scenes import open_scene
from tesela.io.vector import open_layer, read_layer
from tesela.simulate.noise import balance, fractal, refine
from tesela.simulate.region.change import TRANSITIONS, change_landscape, write_region_pair
from tesela.simulate.region.drainage import accumulate, fill, route
from tesela.simulate.region.landscape import Landscape, make_landscape
from tesela.simulate.region.references import Reference, generalised, make_reference
from tesela.simulate.region.region import write_region
from tesela.simulate.region.sensors import make_clouds, simulate_image
from tesela.simulate.region.spectra import BANDS, KINDS, SEASONS, STATES, looks
from tesela.simulate.region.surface import Surface, lay_surface
from tesela.simulate.region.terrain import make_terrain

SIZE_PX = 320
SEA, LAKE, RIVER = 44, 41, 40
CLOUDY = (3, 7, 8, 9)

_DIGEST = """
import hashlib, sys
from tesela.simulate import make_landscape, make_reference, simulate_image
land = make_landscape(size_px=200, seed=4)
image = simulate_image(land, "april")
drawn = make_reference(land, min_area_ha=0.5)
parts = [land.truth, land.altitude_m, land.moisture, land.parcel, image.values, image.scl, drawn.raster]
print(hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest())
"""


@pytest.fixture(scope="module")
def land() -> Landscape:
    return make_landscape(size_px=SIZE_PX, seed=1)


@pytest.fixture(scope="module")
def surface(land: Landscape) -> Surface:
    return lay_surface(land)


@pytest.fixture(scope="module")
def reference(land: Landscape) -> Reference:
    return make_reference(land, min_area_ha=1.0)


def _arrays(land: Landscape) -> dict[str, NDArray[np.generic]]:
    values = {field.name: getattr(land, field.name) for field in fields(land)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _level2(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    table = np.zeros(256, np.int64)
    for item in open_legend("corine-3").classes:
        table[item.value] = int(item.code[:2])
    return table[values]


def _ndvi(values: NDArray[np.uint16]) -> NDArray[np.float64]:
    red, near = (values[BANDS.index(band)].astype(float) for band in ("B04", "B08"))
    return (near - red) / (near + red)


def test_the_same_seed_gives_the_same_bytes(land: Landscape) -> None:
    again = _arrays(make_landscape(size_px=SIZE_PX, seed=1))
    assert len(again) >= 8
    for name, value in _arrays(land).items():
        assert value.tobytes() == again[name].tobytes(), name


def test_another_seed_gives_another_region(land: Landscape) -> None:
    other = make_landscape(size_px=SIZE_PX, seed=2)
    assert (other.truth != land.truth).mean() > 0.3


def test_a_processor_without_wide_vectors_gives_the_same_bytes() -> None:
    def digest(**changes: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _DIGEST],
            env=os.environ | changes,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    plain = digest(
        NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        OMP_NUM_THREADS="1",
        NUMBA_NUM_THREADS="1",
    )
    assert plain == digest(OMP_NUM_THREADS="2", NUMBA_NUM_THREADS="2")


def test_all_main_classes_occur(land: Landscape) -> None:
    shares = np.bincount(_level2(land.truth).ravel(), minlength=53) / land.truth.size
    for code in (11, 12, 21, 22, 24, 31, 32, 33, 51, 52):
        assert shares[code] > 0.004, code
    assert len(np.unique(land.truth)) >= 20
    assert shares.max() < 0.5
    assert set(np.unique(land.truth).tolist()) <= set(open_legend("corine-3").values)


def test_a_large_region_has_wetlands_too() -> None:
    land = make_landscape(size_px=600, pixel_m=30, seed=0)
    assert {421, 411} & {int(open_legend("corine-3").classes[v - 1].code) for v in np.unique(land.truth)}


def test_rivers_flow_downhill_to_lake_sea_or_border(land: Landscape) -> None:
    height, truth = land.altitude_m, land.truth
    assert (truth == RIVER).sum() > 50
    for row, col in np.argwhere(truth == RIVER)[::7].tolist():
        for _ in range(4 * SIZE_PX):
            if truth[row, col] in (SEA, LAKE) or not (0 < row < SIZE_PX - 1 and 0 < col < SIZE_PX - 1):
                break
            around = height[row - 1 : row + 2, col - 1 : col + 2]
            assert around.min() < height[row, col], (row, col)
            down, right = divmod(int(around.argmin()), 3)
            row, col = row + down - 1, col + right - 1
        else:
            pytest.fail("water ran in circles")


def test_flow_grows_downstream_and_rivers_carry_most(land: Landscape) -> None:
    river = land.truth == RIVER
    assert np.median(land.flow[river]) > 20 * np.median(land.flow[~river])
    assert land.flow[land.truth != SEA].max() == pytest.approx(1.0)


def test_water_lies_level(land: Landscape) -> None:
    assert np.all(land.altitude_m[land.truth == SEA] == 0)
    lakes, count = label(land.truth == LAKE, np.ones((3, 3)))
    assert (land.truth == LAKE).sum() > 300
    for number in range(1, count + 1):
        assert np.ptp(land.altitude_m[lakes == number]) == 0


def test_the_sea_is_one_piece_and_land_lies_above_it() -> None:
    terrain = make_terrain(np.random.default_rng(5), size_px=200, pixel_m=20.0)
    assert 0.06 < terrain.sea.mean() < 0.2
    assert terrain.altitude_m[~terrain.sea].min() > 0
    assert np.all((terrain.moisture >= 0) & (terrain.moisture <= 1))


def test_a_field_carries_one_class(land: Landscape) -> None:
    farmed = (land.truth >= 12) & (land.truth <= 22)
    pairs = np.stack([land.parcel[farmed], land.truth[farmed]], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(np.unique(pairs[:, 0]))


def test_parcels_are_numbered_without_gaps(land: Landscape) -> None:
    assert np.array_equal(np.unique(land.parcel), np.arange(len(land.turn)))


def test_woods_prefer_moist_and_scrub_dry_sites(land: Landscape) -> None:
    assert land.moisture[land.truth == 23].mean() > land.moisture[land.truth == 28].mean() + 0.05


def test_towns_avoid_steep_slopes(land: Landscape) -> None:
    assert land.slope[np.isin(land.truth, (1, 2))].mean() < 0.7 * land.slope[land.truth >= 23].mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size_px": 100}, "size_px is 100; a landscape needs 160 to 8000"),
        ({"size_px": 200, "pixel_m": 100.0}, "pixel_m is 100; a landscape needs pixels of 2.5 to 60 m"),
        ({"size_px": 200, "seed": -1}, "seed is -1; it must be 0 or more"),
    ],
)
def test_impossible_landscapes_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(TeselaError, match=message):
        make_landscape(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("season", SEASONS)
def test_reflectances_stay_in_range_and_gaps_go_through_all_bands(
    land: Landscape, surface: Surface, season: str
) -> None:
    image = simulate_image(land, season, surface=surface, cloud_cover=0.1)
    assert image.values.dtype == np.uint16
    assert image.values.shape == (10, SIZE_PX, SIZE_PX)
    gap = image.values == 0
    assert np.array_equal(gap.any(axis=0), gap.all(axis=0))
    assert np.array_equal(gap.all(axis=0), np.isin(image.scl, CLOUDY))
    seen = image.values[:, ~gap.all(axis=0)]
    assert seen.max() <= 10_000
    assert 50 < np.median(seen[BANDS.index("B02")]) < 1500


def test_clouds_and_shadows_are_marked_where_they_change_the_image(land: Landscape, surface: Surface) -> None:
    clouded = simulate_image(land, "april", surface=surface, clouds="keep", cloud_cover=0.15)
    clear = simulate_image(land, "april", surface=surface, clouds="none")
    assert clouded.values.min() >= 1
    assert not np.isin(clear.scl, CLOUDY).any()
    blue = BANDS.index("B02")
    change = clouded.values[blue].astype(int) - clear.values[blue].astype(int)
    assert np.isin(clouded.scl[change > 2500], (8, 9)).all()
    assert np.isin(clouded.scl[np.abs(change) > 600], CLOUDY).mean() > 0.97
    assert np.median(change[clouded.scl == 9]) > 3000
    assert np.median(change[clouded.scl == 3]) < 0
    assert 0.08 < np.isin(clouded.scl, (7, 8, 9)).mean() < 0.25


def test_shadows_fall_away_from_the_sun() -> None:
    sky = make_clouds(
        np.random.default_rng(0), (400, 400), pixel_m=20, cover=0.4, sun_elevation_deg=55, sun_azimuth_deg=140
    )
    moves = [(down, right) for down in range(-60, 61, 3) for right in range(-60, 61, 3)]

    def shared(move: tuple[int, int]) -> float:
        cloud = sky.opacity[60 + move[0] : 340 + move[0], 60 + move[1] : 340 + move[1]]
        return float(np.corrcoef(cloud.ravel(), sky.shadow[60:340, 60:340].ravel())[0, 1])

    down, right = max(moves, key=shared)
    assert shared((down, right)) > 0.9
    assert down > 0
    assert right > 0


def test_scene_classification_knows_water_and_plants(land: Landscape, surface: Surface) -> None:
    scl = simulate_image(land, "july", surface=surface, clouds="none").scl
    assert (scl[land.truth == SEA] == 6).mean() > 0.95
    assert (scl[land.truth == 23] == 4).mean() > 0.9
    assert (scl[land.truth == 7] == 5).mean() > 0.8 or not (land.truth == 7).any()


def test_fields_are_green_in_april_and_woods_in_july(land: Landscape, surface: Surface) -> None:
    april, july = (
        _ndvi(simulate_image(land, season, surface=surface, clouds="none").values) for season in SEASONS[:2]
    )
    arable, broadleaf = land.truth == 12, land.truth == 23
    assert np.median(april[arable]) > np.median(july[arable]) + 0.1
    assert np.median(july[broadleaf]) > 0.65
    assert np.median(july[land.truth == SEA]) < 0


def test_slopes_toward_the_sun_are_brighter_than_if_the_land_were_flat(
    land: Landscape, surface: Surface
) -> None:
    flat = replace(land, altitude_m=np.zeros_like(land.altitude_m))
    near = BANDS.index("B08")
    lit, even = (
        simulate_image(landscape, "september", surface=surface, clouds="none").values[near].astype(float)
        for landscape in (land, flat)
    )
    south, east = np.gradient(land.altitude_m, 10.0)
    toward = -0.85 * south - 0.52 * east  # fall of the terrain towards the sun, which stands at 149 degrees
    ratio = lit / even
    wood = np.isin(land.truth, (23, 24, 25))
    assert ratio[wood & (toward > 0.15)].mean() > 1.04
    assert ratio[wood & (toward < -0.15)].mean() < 0.92
    assert ratio[land.truth == SEA].mean() == pytest.approx(1.0, abs=0.01)


def test_a_pixel_alone_does_not_tell_its_class_and_its_surroundings_help(
    land: Landscape, surface: Surface
) -> None:
    from scipy.ndimage import uniform_filter
    from sklearn.ensemble import RandomForestClassifier

    image = simulate_image(land, "july", surface=surface, clouds="none").values.astype(np.float32)
    around = np.stack([uniform_filter(band, 11) for band in image])
    rough = np.sqrt(np.maximum(np.stack([uniform_filter(band * band, 11) for band in image]) - around**2, 0))
    truth = _level2(land.truth).ravel()
    block = np.add.outer(np.arange(SIZE_PX) // 40 * 3, np.arange(SIZE_PX) // 40).ravel() % 4
    chosen = np.random.default_rng(0).permutation(truth.size)[:16_000]
    train, test = chosen[block[chosen] > 0], chosen[block[chosen] == 0]

    def accuracy(layers: NDArray[np.float32]) -> float:
        table = layers.reshape(len(layers), -1).T
        forest = RandomForestClassifier(25, min_samples_leaf=3, random_state=0)
        return float((forest.fit(table[train], truth[train]).predict(table[test]) == truth[test]).mean())

    alone, wider = accuracy(image), accuracy(np.concatenate([image, around, rough]))
    assert 0.5 < alone < 0.78
    assert wider > alone + 0.015


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"season": "juli"}, "Unknown season 'juli': did you mean 'july'"),
        ({"season": "july", "clouds": "keeps"}, "Unknown cloud rule 'keeps': did you mean 'keep'"),
        ({"season": "july", "cloud_cover": 1.5}, "cloud_cover is 1.5; give the share"),
    ],
)
def test_impossible_images_are_refused(
    land: Landscape, arguments: dict[str, float | str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        simulate_image(land, **arguments)  # type: ignore[arg-type]


def test_every_kind_has_eight_states_in_every_season() -> None:
    for season in SEASONS:
        look = looks(season)
        assert len(look.top) == len(look.share) == len(look.background) == len(KINDS) * STATES
        assert np.all((look.share > 0) & (look.share <= 1))


def test_reference_differs_from_truth_as_much_as_real_maps_do(land: Landscape, reference: Reference) -> None:
    assert reference.disagreement == pytest.approx((reference.raster != land.truth).mean())
    assert 0.10 < reference.disagreement < 0.30


def test_wrong_polygons_are_listed_with_what_they_should_be(land: Landscape, reference: Reference) -> None:
    from shapely.geometry import Point

    given = dict(zip(reference.polygons["ID"], reference.polygons["CODE_18"], strict=True))
    shapes = reference.polygons.to_crs(str(land.grid.crs)).set_index("ID").geometry
    assert {mistake.kind for mistake in reference.wrong} == {"label", "outdated", "shifted"}
    legend = open_legend("corine-3")
    as_truth = 0
    relabelled = [mistake for mistake in reference.wrong if mistake.kind != "shifted"]
    for mistake in reference.wrong:
        assert given[mistake.polygon] == mistake.code
        assert shapes[mistake.polygon].buffer(1).contains(Point(mistake.x_m, mistake.y_m))
        assert (mistake.code == mistake.true_code) == (mistake.kind == "shifted")
        assert (mistake.east_m == 0 and mistake.south_m == 0) or 10 <= abs(mistake.east_m) <= 50
    right = make_reference(land, min_area_ha=1.0, label_errors=0, outdated=0)
    for mistake in relabelled:
        col, row = ~land.grid.affine @ (mistake.x_m, mistake.y_m)
        as_truth += right.raster[int(row), int(col)] == legend[mistake.true_code].value
    assert as_truth == len(relabelled)


def test_a_reference_without_mistakes_lists_none(land: Landscape) -> None:
    clean = make_reference(land, min_area_ha=1.0, label_errors=0, outdated=0, shifted=0)
    assert clean.wrong == ()
    assert np.array_equal(clean.raster, generalised(land.truth, least_px=100))


def test_reference_polygons_are_valid_and_cover_the_region_once(
    land: Landscape, reference: Reference
) -> None:
    from rasterio.features import rasterize
    from shapely import union_all

    frame = reference.polygons
    assert frame.crs.to_epsg() == 3035
    assert frame.is_valid.all()
    assert frame["CODE_18"].map(lambda code: code in open_legend("corine-3").codes).all()
    own = frame.to_crs(str(land.grid.crs))
    assert own.area.sum() == pytest.approx((SIZE_PX * 10) ** 2, rel=1e-4)
    assert union_all(own.geometry.to_numpy()).area == pytest.approx((SIZE_PX * 10) ** 2, rel=1e-4)
    drawn = rasterize(
        zip(own.geometry, frame["ID"], strict=True),
        land.truth.shape,
        transform=land.grid.affine,
        dtype="int32",
    )
    assert (drawn > 0).mean() > 0.999
    codes = frame["CODE_18"].map(lambda code: open_legend("corine-3")[code].value).to_numpy()
    assert (codes[np.maximum(drawn, 1) - 1] == reference.raster).mean() > 0.95


def test_no_area_of_the_reference_is_under_the_smallest_unit(reference: Reference) -> None:
    assert reference.polygons["AREA_HA"].min() > 0.7  # outlines are smoothed by up to two pixels


def test_impossible_references_are_refused(land: Landscape) -> None:
    with pytest.raises(InputError, match=r"shifted is 0\.9; give a share from 0 to 0\.5"):
        make_reference(land, shifted=0.9)
    with pytest.raises(InputError, match="min_area_ha is 1000, 100000 pixels"):
        make_reference(land, min_area_ha=1000)


def test_a_region_on_disk_opens_with_the_package_and_is_written_alike_twice(tmp_path: Path) -> None:
    def write(name: str) -> dict[str, str]:
        write_region(tmp_path / name, size_px=200, seed=4, min_area_ha=1.0, bands=("B08", "B04", "B03"))
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((tmp_path / name).iterdir())
        }

    first = write("a")
    assert first == write("b")
    scene = open_scene(tmp_path / "a" / "scene_july.tif")
    assert [band.name for band in scene.bands] == ["B08", "B04", "B03"]
    assert scene.bands[0].nodata == 0
    assert scene.bands[0].scale == pytest.approx(1e-4)
    with MapReader(open_map(tmp_path / "a" / "truth.tif")) as reader:
        assert reader.map.legend.address == "corine-3"
        assert np.array_equal(reader.read(scene.grid), make_landscape(size_px=200, seed=4).truth)
    layer = open_layer(tmp_path / "a" / "reference.gpkg")
    assert layer.require_field("CODE_18") == "CODE_18"
    assert "3035" in layer.crs
    assert len(read_layer(layer)) == layer.count > 10
    with open_dataset(tmp_path / "a" / "altitude.tif") as data:
        assert data.dtypes == ("float32",)
    with (tmp_path / "a" / "reference_mistakes.csv").open(encoding="utf-8") as file:
        assert {row["kind"] for row in csv.DictReader(file)} <= {"label", "outdated", "shifted"}


def test_a_region_with_an_unknown_band_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Unknown band 'B8': did you mean"):
        write_region(tmp_path / "out", size_px=200, bands=("B8",))
    assert not (tmp_path / "out").exists()


def test_refining_keeps_constants_and_ramps() -> None:
    assert np.all(refine(np.full((5, 6), 3.0, np.float32)) == 3.0)
    ramp = np.arange(6, dtype=np.float32)[None, :].repeat(5, axis=0)
    assert np.allclose(refine(ramp)[0], np.arange(1, 5, 0.5))


def test_noise_has_unit_variance_at_every_scale() -> None:
    for longest_m, shortest_m in ((10, 10), (80, 10), (160, 160)):
        field = fractal(
            np.random.default_rng(1), (512, 512), pixel_m=10, longest_m=longest_m, shortest_m=shortest_m
        )
        assert abs(field.mean()) < 0.1
        assert field.std() == pytest.approx(1.0, abs=0.12)


def test_balance_gives_each_class_its_share() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 4000)).astype(np.float32)
    scores[0] += 5
    won = np.bincount(np.argmax(scores + balance(scores, (1, 1, 2))[:, None], axis=0), minlength=3) / 4000
    assert won == pytest.approx([0.25, 0.25, 0.5], abs=0.05)


def test_a_pit_is_filled_to_its_rim_and_drains() -> None:
    height = np.full((5, 5), 9.0)
    height[1:4, 1:4] = 5.0
    height[2, 2] = 1.0
    height[2, 4] = 4.0  # the way out
    dry = np.zeros((5, 5), np.bool_)
    order = fill(height, dry, np.full((5, 5), 0.25, np.float32))
    receiver = route(height, dry)
    area = accumulate(receiver, order)
    assert height[2, 2] == 5.25  # one step above the rim cell it spills over
    assert receiver[2 * 5 + 3] == 2 * 5 + 4
    assert area[2 * 5 + 4] >= 10


def test_land_changes_by_parcels_into_what_its_class_can_become(land: Landscape) -> None:
    late = change_landscape(land, share=0.05, seed=1)
    changed = late.truth != land.truth
    assert 0.05 <= changed.mean() < 0.08
    pairs = set(zip(land.truth[changed].tolist(), late.truth[changed].tolist(), strict=True))
    assert all(after in TRANSITIONS[before] for before, after in pairs)
    assert len(pairs) > 5
    for number in np.unique(land.parcel[changed])[:50]:
        inside = (land.parcel == number) & changed
        assert len(np.unique(land.truth[inside])) == len(np.unique(late.truth[inside])) == 1
    assert (change_landscape(land, share=0.05, seed=1).truth == late.truth).all()
    assert (change_landscape(land, share=0.05, seed=2).truth != late.truth).any()
    assert (change_landscape(land, share=0).truth == land.truth).all()
    with pytest.raises(InputError, match=r"share is 0\.9; give the share"):
        change_landscape(land, share=0.9)


def test_a_pair_differs_everywhere_in_looks_and_in_known_places_in_class(tmp_path: Path) -> None:
    pair = write_region_pair(tmp_path, size_px=200, seed=3, bands=("B04", "B08"))
    truth, images = [], []
    for known, scenes in ((pair.truth_before, pair.before), (pair.truth_after, pair.after)):
        with rasterio.open(known) as file:
            truth.append(file.read(1))
        with rasterio.open(scenes[0]) as file:
            images.append(file.read().astype(float))
    changed = truth[0] != truth[1]
    assert 0.03 <= changed.mean() < 0.08
    far = np.abs(images[1] - images[0]).mean(0)
    assert 0 < np.median(far[~changed]) < np.median(far[changed])
    stable_fields = ~changed & (truth[0] == 12)
    assert np.median(far[stable_fields]) > np.median(far[~changed & np.isin(truth[0], (23, 24, 28))])
