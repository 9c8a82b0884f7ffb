"""Where imagery comes from: areas, periods, providers, items, offsets, masks and rules, each by hand."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from odc.geo.geobox import GeoBox

from tesela.core import InputError
from tesela.core.errors import NetworkError
from tesela.io.http import RetryPolicy, Web
from tesela.simulate.server.server import ProviderServer
from tesela.sources.areas import make_area
from tesela.sources.catalogue import find_items
from tesela.sources.modis.files import modis_addresses
from tesela.sources.mosaic.compositing import (
    RULES,
    best,
    cloud_distance,
    harmonise,
    is_clear,
    median,
    medoid,
    scores,
    tile_side,
)
from tesela.sources.mosaic.mosaic import write_mosaics
from tesela.sources.mosaic.scenes import group_observations, newest_processing
from tesela.sources.periods import Period, parse_periods
from tesela.sources.providers import Catalogue, TokenSigner, open_catalogue
from tesela.sources.sensor import Granule, RejectedScene, choose_bands, parse_masked
from tesela.sources.sentinel2.sensor import SPEC, Sentinel2, infer_offset, read_granule

QUICK = RetryPolicy(tries=3, timeout_s=2, first_wait_s=0.01)


def granule(
    name: str = "a",
    *,
    day: int = 1,
    minute: int = 0,
    tile: str = "30SVF",
    platform: str = "sentinel-2a",
    version: float = 2.07,
    offset: float = 0.0,
) -> Granule:
    return Granule(
        name,
        datetime(2018, 4, day, 10, minute, tzinfo=UTC),
        platform,
        tile,
        version,
        0.0,
        (-4, 36, -3, 37),
        {"B04": "red.tif", "SCL": "scl.tif"},
        offset,
    )


def item(assets: dict[str, object], **properties: object) -> dict[str, object]:
    stated = {"datetime": "2023-04-15T10:50:31.024Z", "platform": "sentinel-2a", **properties}
    return {"id": "S2A_one", "properties": stated, "assets": assets, "bbox": [-4, 36, -3, 37]}


# areas


def test_a_box_becomes_a_grid_on_whole_pixels_that_covers_it() -> None:
    area = make_area("-3.60,36.90,-3.55,36.95", resolution_m=20)
    grid = area.grid
    assert grid.crs == "EPSG:32630"
    assert grid.affine.c % 20 == 0
    assert grid.affine.f % 20 == 0
    west, south, east, north = area.bounds
    assert west <= -3.60
    assert south <= 36.90
    assert east >= -3.55
    assert north >= 36.95
    assert area.inside(grid).all()


def test_polygons_cut_the_area(tmp_path: Path) -> None:
    triangle = shapely.Polygon([(500_000, 4_100_000), (500_095, 4_100_000), (500_000, 4_100_095)])
    gpd.GeoDataFrame(geometry=[triangle], crs="EPSG:25830").to_file(tmp_path / "area.gpkg")
    area = make_area(tmp_path / "area.gpkg", crs="EPSG:25830")
    assert area.grid.shape == (10, 10)
    assert area.inside(area.grid).sum() == 45  # centres with x + y < 95


def test_a_raster_gives_its_own_grid(tmp_path: Path) -> None:
    path = tmp_path / "like.tif"
    transform = Affine(7, 0, 500_003, 0, -7, 4_100_001)
    profile = {"driver": "GTiff", "width": 5, "height": 4, "count": 1, "dtype": "uint8", "crs": "EPSG:25830"}
    with rasterio.open(path, "w", transform=transform, **profile) as data:
        data.write(np.ones((1, 4, 5), np.uint8))
    assert make_area(like=path).grid == GeoBox((4, 5), transform, "EPSG:25830")


@pytest.mark.parametrize(
    ("area", "message"),
    [
        (None, "No area was given"),
        ("1,2,3", "has 3 numbers"),
        ("5,40,4,41", "not a box in degrees"),
        ("nowhere.gpkg", "neither four numbers"),
    ],
)
def test_invalid_areas_are_refused(area: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_area(area)


# periods


def test_months_are_mosaics_of_their_own_and_ranges_are_one() -> None:
    periods = parse_periods("2, 6-8", 2020)
    assert [period.name for period in periods] == ["2020-02", "2020-06to08"]
    assert (periods[0].first, periods[0].last) == (date(2020, 2, 1), date(2020, 2, 29))
    assert (periods[1].first, periods[1].last) == (date(2020, 6, 1), date(2020, 8, 31))


@pytest.mark.parametrize("months", ["0", "13", "8-6", "april", "", "4,4"])
def test_invalid_months_are_refused(months: str) -> None:
    with pytest.raises(InputError, match="Months"):
        parse_periods(months, 2018)


def test_years_before_the_sensor_are_refused(tmp_path: Path) -> None:
    area = make_area("-3.6,36.9,-3.5,37.0")
    with pytest.raises(InputError, match="Year 2012: Sentinel-2 has images since 2015"):
        write_mosaics(Catalogue("nowhere"), area, tmp_path, periods=parse_periods("4", 2012))
    with pytest.raises(InputError, match="Year 18: satellites have imaged the land since 1972"):
        parse_periods("4", 18)


def test_the_middle_of_a_period_is_at_no_distance() -> None:
    assert Period(2018, 4, 4).days_from_middle(datetime(2018, 4, 16, tzinfo=UTC)) == 0
    assert Period(2018, 4, 4).days_from_middle(datetime(2018, 4, 1, tzinfo=UTC)) == 15


# providers


def test_unknown_catalogues_name_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'earth-search'"):
        open_catalogue("earthsearch")
    with pytest.raises(InputError, match="no such file or folder"):
        open_catalogue("data/catalog.json")


def test_tokens_are_kept_until_they_end_and_renewed_when_refused(tmp_path: Path) -> None:
    (tmp_path / "red.tif").write_bytes(b"0123456789")
    with ProviderServer(tmp_path, signed=True) as server:
        web = Web(patience=QUICK, signer=TokenSigner(server.address, QUICK))
        url = f"{server.base}/red.tif"
        assert web.get(url, span=(2, 5)) == b"234"
        assert web.get(url, span=(5, 6)) == b"5"
        assert sum("token" in path and "sig" not in path for path in server.requests) == 1
        server.expire()
        assert web.get(url, span=(0, 1)) == b"0"
        server.life_s = 60  # less than the margin: each use fetches anew
        server.expire()
        web.get(url, span=(0, 1))
        before = len(server.requests)
        web.get(url, span=(0, 1))
        assert len(server.requests) == before + 2


def test_an_address_signed_long_ago_is_refused_with_its_date(tmp_path: Path) -> None:
    (tmp_path / "red.tif").write_bytes(b"0123456789")
    with (
        ProviderServer(tmp_path, signed=True) as server,
        pytest.raises(NetworkError, match="no longer holds \\(it ended 2020-01-01"),
    ):
        Web(patience=QUICK).get(f"{server.base}/red.tif?se=2020-01-01T00:00:00Z&sig=token0")


def test_without_a_network_one_line_names_the_way_out() -> None:
    with pytest.raises(NetworkError, match=r"cannot be found: is there a network\? .*--catalogue FOLDER"):
        Web(patience=QUICK).get("http://no-such-host.invalid/v1")


# catalogues


def test_a_search_pages_through_all_items_of_box_and_dates(tmp_path: Path) -> None:
    (tmp_path / "items").mkdir()
    for day in range(1, 10):
        document = {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"day{day}",
            "collection": "sentinel-2-l2a",
            "bbox": [-4, 36, -3, 37] if day != 3 else [10, 50, 11, 51],
            "geometry": None,
            "properties": {"datetime": f"2018-04-0{day}T10:00:00Z"},
            "assets": {"B04": {"href": "../red.tif"}},
            "links": [],
        }
        (tmp_path / "items" / f"day{day}.json").write_text(json.dumps(document))
    wanted = {
        "collection": "sentinel-2-l2a",
        "bounds": (-3.6, 36.9, -3.5, 37.0),
        "first": date(2018, 4, 2),
        "last": date(2018, 4, 8),
    }
    days = ["day2", "day4", "day5", "day6", "day7", "day8"]
    with ProviderServer(tmp_path, page=2) as server:
        items = find_items(Catalogue(server.address), Web(patience=QUICK), **wanted)
        assert [one["id"] for one in items] == days
        assert items[0]["assets"]["B04"]["href"] == f"{server.base}/red.tif"
    items = find_items(Catalogue(str(tmp_path)), Web(), **wanted)
    assert [one["id"] for one in items] == days
    assert Path(items[0]["assets"]["B04"]["href"]).resolve() == tmp_path / "red.tif"


def test_what_is_no_catalogue_is_refused(tmp_path: Path) -> None:
    search = {"collection": None, "bounds": (0, 0, 1, 1), "first": date(2018, 1, 1), "last": date(2018, 2, 1)}
    with pytest.raises(InputError, match="holds neither a catalog"):
        find_items(Catalogue(str(tmp_path)), Web(), **search)
    (tmp_path / "catalog.json").write_text('{"hello": 1}')
    with pytest.raises(InputError, match="cannot be read as a STAC catalogue"):
        find_items(Catalogue(str(tmp_path)), Web(), **search)
    for box in (["a", "b", "c", "d"], [1, 2, 3]):
        item = {"type": "Feature", "id": "i", "bbox": box, "properties": {}, "assets": {}}
        (tmp_path / "catalog.json").write_text(json.dumps(item))
        with pytest.raises(InputError, match="cannot be read as a STAC catalogue"):
            find_items(Catalogue(str(tmp_path)), Web(), **search)


def test_months_before_modis_are_refused() -> None:
    area = make_area("-3.6,36.9,-3.5,37.0")
    with pytest.raises(InputError, match="MODIS has images since 2000"):
        modis_addresses(Catalogue("nowhere"), Web(), area, first=date(1, 1, 1), last=date(2012, 2, 29))


def test_safe_products_are_described_by_their_names(tmp_path: Path) -> None:
    product = tmp_path / "S2B_MSIL2A_20220615T105629_N0400_R094_T30SVF_20220615T150000.SAFE"
    for band, metres in (("B04", 10), ("B04", 20), ("SCL", 20)):
        folder = product / "GRANULE" / "L2A_T30SVF" / "IMG_DATA" / f"R{metres}m"
        folder.mkdir(parents=True, exist_ok=True)
        transform = Affine(metres, 0, 440_000, 0, -metres, 4_090_000)
        size = 120 // metres
        profile = {"driver": "GTiff", "width": size, "height": size, "count": 1, "dtype": "uint16"}
        path = folder / f"T30SVF_20220615T105629_{band}_{metres}m.jp2"
        with rasterio.open(path, "w", crs="EPSG:32630", transform=transform, **profile) as data:
            data.write(np.full((1, size, size), 1500, np.uint16))
    items = find_items(
        Catalogue(str(tmp_path)),
        Web(),
        collection=None,
        bounds=(-3.7, 36.9, -3.6, 37.0),
        first=date(2022, 6, 1),
        last=date(2022, 6, 30),
        products=Sentinel2().product_items,
    )
    one = read_granule(items[0], ("B04",))
    assert isinstance(one, Granule)
    assert (one.tile, one.platform, one.version, one.offset) == ("30SVF", "sentinel-2b", 4.0, -0.1)
    assert one.bands["B04"].endswith("B04_10m.jp2")


# items


@pytest.mark.parametrize(
    ("names", "properties", "stated", "offset"),
    [
        (
            ("red", "scl"),
            {"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.09"},
            -0.1,
            0,
        ),
        (("red", "scl"), {"earthsearch:boa_offset_applied": False}, -0.1, -0.1),
        (("B04", "SCL"), {"s2:processing_baseline": "04.00"}, None, -0.1),
        (("B04", "SCL"), {"s2:processing_baseline": "03.01"}, None, 0),
        (("B04_10m", "SCL_20m"), {"processing:version": "05.00"}, -0.1, -0.1),
        (("B04", "SCL"), {}, None, -0.1),
        (("B04", "SCL"), {"datetime": "2021-06-01T10:00:00Z"}, None, 0),
    ],
)
def test_the_offset_is_read_as_each_provider_states_it(
    names: tuple[str, str], properties: dict[str, object], stated: float | None, offset: float
) -> None:
    red: dict[str, object] = {"href": "red.tif"}
    if stated is not None:
        red |= {"raster:bands": [{"offset": stated}]} if "red" in names else {"raster:offset": stated}
    result = read_granule(item({names[0]: red, names[1]: {"href": "scl.tif"}}, **properties), ("B04",))
    assert isinstance(result, Granule)
    assert result.offset == offset


def test_an_item_without_a_band_lists_what_it_has() -> None:
    result = read_granule(item({"B04": {"href": "x"}, "SCL": {"href": "y"}}), ("B04", "B11"))
    assert result == RejectedScene("S2A_one", "lacks B11 (it has B04, SCL)")


def test_band_sets_and_lists_are_read() -> None:
    assert choose_bands("nrg", SPEC) == ("B08", "B04", "B03")
    assert choose_bands("B8A, B04", SPEC) == ("B8A", "B04")
    with pytest.raises(InputError, match="did you mean 'B04'"):
        choose_bands("B4", SPEC)
    with pytest.raises(InputError, match="each band once"):
        choose_bands("B04,B04", SPEC)


def test_of_two_processings_the_newer_one_stays() -> None:
    old, new, other = granule("old"), granule("new", version=5.0), granule("other", tile="30SWF")
    assert newest_processing([old, new, other]) == [new, other]


def test_granules_of_one_pass_are_one_observation() -> None:
    first = [granule("a"), granule("b", tile="30SWF", minute=1)]
    later = granule("c", day=6)
    twin = granule("d", minute=1, platform="sentinel-2b")
    groups = group_observations([later, *first, twin])
    assert [[one.name for one in group] for group in groups] == [["a", "b"], ["d"], ["c"]]


# offsets


@pytest.mark.parametrize(
    ("numbers", "baseline", "offset", "right", "words"),
    [
        (300, 5.0, -0.1, 0.0, "in the pixels already"),
        (1300, 5.0, 0.0, -0.1, "never applied"),
        (1300, 5.0, -0.1, -0.1, ""),
        (300, 5.0, 0.0, 0.0, ""),
        (1300, 2.07, 0.0, 0.0, ""),
    ],
)
def test_dark_plants_show_the_right_offset(
    numbers: int, baseline: float, offset: float, right: float, words: str
) -> None:
    red = np.full((20, 20), numbers, np.uint16)
    corrected, note = infer_offset(
        granule(version=baseline, offset=offset), red, np.full((20, 20), 4, np.uint8)
    )
    assert corrected.offset == right
    assert words in note
    assert bool(note) == bool(words)


def test_a_desert_proves_nothing() -> None:
    bright = np.full((20, 20), 2600, np.uint16)
    corrected, note = infer_offset(granule(version=5.0), bright, np.full((20, 20), 5, np.uint8))
    assert (corrected.offset, note) == (0.0, "")


def test_nodata_is_masked_before_the_offset_is_added() -> None:
    numbers, valid = np.array([0, 1000, 1001, 60_000]), np.array([True] * 4)
    assert harmonise(numbers, valid, scale=1e-4, offset=-0.1).tolist() == [0, 1, 1, 59_000]


# masks


def test_the_buffer_reaches_beyond_clouds_but_not_beyond_dark_areas() -> None:
    scl = np.array([[4, 4, 4, 9, 4, 4, 4, 4, 2, 4, 0, 4]])
    distance = cloud_distance(scl, cloudy=SPEC.cloudy, pixel_m=10, most_m=1000)
    clear = is_clear(scl, distance, masked=SPEC.masked, buffer_m=20)
    assert clear.tolist()[0] == [
        True,
        False,
        False,
        False,
        False,
        False,
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_masked_classes_are_read() -> None:
    assert parse_masked("9,3", SPEC) == (0, 3, 9)
    with pytest.raises(InputError, match="0 to 11"):
        parse_masked("9,12", SPEC)


# rules


def stack(*observations: object) -> np.ndarray:
    """One row of pixels: for each observation its bands, for each of them its pixels."""
    return np.asarray(observations, np.uint16)[:, :, np.newaxis, :]


NO_SCORE = np.zeros((3, 1, 2), np.float32)


def test_the_median_is_taken_by_band_over_what_is_there() -> None:
    seen = stack([[10, 5], [1, 7]], [[30, 0], [2, 0]], [[20, 8], [9, 2]])
    assert median(seen, NO_SCORE)[:, 0].tolist() == [[20, 7], [2, 5]]  # of 5 and 8, 7 and 2: half up


def test_the_medoid_is_one_whole_observation() -> None:
    seen = stack([[10, 5], [10, 5]], [[12, 0], [12, 0]], [[90, 8], [0, 8]])
    seen[2, 1, 0, 0] = 1
    assert medoid(seen, NO_SCORE)[:, 0].tolist() == [[12, 5], [12, 5]]


def test_the_best_pixel_has_the_highest_score() -> None:
    seen = stack([[10, 0]], [[12, 0]], [[90, 0]])
    score = scores(
        np.array([0, 500, 500], np.float32)[:, np.newaxis, np.newaxis].repeat(2, axis=2),
        np.array([0, 0, 30], np.float32),
        half_days=15,
        most_m=1000,
    )
    assert score[:, 0, 0] == pytest.approx([1, 1.5, 0.5 + np.exp(-2)])
    assert best(seen, score)[:, 0].tolist() == [[12, 0]]


@given(
    hnp.arrays(np.uint16, (5, 2, 2, 3), elements=st.integers(1, 9000)),
    hnp.arrays(np.bool_, (5, 2, 3)),
    st.permutations(range(5)),
)
def test_every_rule_gives_a_value_where_anything_was_seen_whatever_the_order(
    values: np.ndarray, hidden: np.ndarray, order: list[int]
) -> None:
    values.transpose(1, 0, 2, 3)[:, hidden] = 0
    score = np.ones((5, 2, 3), np.float32)
    seen = ~hidden.all(axis=0)
    for name, rule in RULES.items():
        composed = rule(values, score)
        assert ((composed > 0).all(axis=0) == seen).all()
        assert (composed <= values.max(axis=0)).all()
        if name == "median":
            assert (rule(values[order], score) == composed).all()
            plain = np.where(values > 0, values, np.nan).astype(float)[:, :, seen]
            assert (composed[:, seen] == np.floor(np.nanmedian(plain, axis=0) + 0.5)).all()


def test_tiles_keep_to_the_budget() -> None:
    assert tile_side(512 << 20, observations=12, bands=3) == 1024
    assert tile_side(64 << 20, observations=60, bands=10) == 128
    assert tile_side(1, observations=60, bands=10) == 128
