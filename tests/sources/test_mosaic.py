"""Mosaics from catalogues in each provider's layout, over HTTP on loopback, with everything that goes wrong there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

from mosaic_scenes import BANDS, GRID, SIDE, catalogue_of, mosaic, seen
from tesela.cli import main
from tesela.core import InputError, TeselaError
from tesela.core.errors import NetworkError
from tesela.core.grid import bounds_in
from tesela.simulate.server.catalogue import Acquisition, write_acquisition
from tesela.simulate.server.server import Fault, ProviderServer
from tesela.sources.areas import Area

LAYOUTS = ("earth-search", "planetary-computer", "cdse")


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as data:
        return data.read()


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Three passes; the upper left block is never clear, its neighbour once."""
    hidden = {(0, 0): 9}
    return catalogue_of(
        tmp_path / "provider",
        [
            seen(3, 400, clouds={**hidden, (0, 1): 8}),
            seen(8, 500, clouds={**hidden, (0, 1): 3}),
            seen(13, 900, clouds=hidden),
        ],
    )


def test_pixels_are_the_median_of_clear_views_and_gaps_stay_nodata(three: Path, tmp_path: Path) -> None:
    made = mosaic(str(three), tmp_path / "out")
    image, count = read(made.image), read(made.count)[0]
    assert (image[:, :32, :32] == 0).all()
    assert (image[:, :32, 32:64].reshape(3, -1).T == [900, 901, 902]).all()
    assert (image[:, 32:].reshape(3, -1).T == [500, 501, 502]).all()
    assert (count[0, 0], count[0, 40], count[40, 40]) == (0, 1, 3)
    assert made.gaps == 32 * 32
    with rasterio.open(made.image) as data:
        assert data.descriptions == BANDS
        assert (data.nodata, data.scales[0], data.dtypes[0]) == (0, 1e-4, "uint16")
    assert cog_validate(made.image)[0]
    assert cog_validate(made.count)[0]
    item = json.loads(made.item.read_text())
    assert [one["id"] for one in item["properties"]["tesela:scenes"]] == [
        f"S2A_30SVF_201804{day}_0_L2A" for day in ("03", "08", "13")
    ]


def test_assets_may_lie_in_a_folder_beside_a_local_catalogue(three: Path, tmp_path: Path) -> None:
    expected = read(mosaic(str(three), tmp_path / "out").image)
    images = tmp_path / "images"
    images.mkdir()
    for path in three.rglob("*.json"):
        document = json.loads(path.read_text())
        for name, asset in document["assets"].items() if document.get("type") == "Feature" else ():
            file = path.parent / asset["href"]
            if file.is_file():
                moved = file.rename(images / f"{document['id']}-{name}{file.suffix}")
                up = "../" * (len(path.parent.relative_to(three).parts) + 1)
                asset["href"] = f"{up}images/{moved.name}"
        path.write_text(json.dumps(document))
    assert len(list(images.iterdir())) >= 12
    np.testing.assert_array_equal(read(mosaic(str(three), tmp_path / "beside").image), expected)


@pytest.mark.parametrize("baseline", ["02.07", "05.00"])
def test_all_providers_give_the_same_pixels(tmp_path: Path, baseline: str) -> None:
    images = []
    for layout in LAYOUTS:
        passes = [seen(day, 40 * day, clouds={(1, day % 4): 9}, baseline=baseline) for day in (3, 8, 13)]
        folder = catalogue_of(tmp_path / layout, passes, layout)
        with ProviderServer(folder, signed=layout == "planetary-computer") as server:
            made = mosaic(f"{layout}={server.address}", tmp_path / f"out-{layout}")
        assert not made.notes
        images.append(made.image.read_bytes())
    assert images[0] == images[1] == images[2]


@pytest.mark.parametrize(
    ("layout", "shifted", "words"),
    [("cdse", False, "in the pixels already"), ("earth-search", True, "never applied")],
)
def test_metadata_that_contradict_the_pixels_are_corrected(
    tmp_path: Path, layout: str, shifted: bool, words: str
) -> None:
    folder = catalogue_of(tmp_path / "provider", [seen(3, 400, baseline="05.00", shifted=shifted)], layout)
    made = mosaic(str(folder), tmp_path / "out")
    assert words in made.notes[0]
    assert (read(made.image)[0] == 400).all()


FAULTS = {
    "errors of the server": Fault(r"_20180408_.*red\.tif", status=503, times=4),
    "errors of the catalogue": Fault("/search", status=500, times=2),
    "too many requests": Fault(r"_20180408_.*green\.tif", status=429, times=1, retry_after_s=1),
    "too many searches": Fault("/search", status=429, times=1, retry_after_s=1),
    "a truncated file": Fault(r"_20180408_.*blue\.tif", kind="truncate", times=4),
    "a truncated answer of the catalogue": Fault("/search", kind="truncate", times=1),
    "a stalled file": Fault(r"_20180408_.*scl\.tif", kind="stall", seconds=4, times=2),
    "a stalled catalogue": Fault("/search", kind="stall", seconds=4, times=1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_passing_faults_change_no_byte(name: str, three: Path, tmp_path: Path) -> None:
    calm = mosaic(str(three), tmp_path / "calm")
    fault = FAULTS[name]
    fault.met = fault.hasty = 0
    with ProviderServer(three, faults=[fault]) as server:
        made = mosaic(server.address, tmp_path / "out", collection="sentinel-2-l2a")
    assert fault.met >= 1
    assert fault.hasty <= 3  # GDAL repeats a request without reporting the first response
    assert made.retries >= 1
    assert made.image.read_bytes() == calm.image.read_bytes()
    assert made.count.read_bytes() == calm.count.read_bytes()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(r"_20180408_.*red\.tif", status=404), r"20180408_0_L2A/red\.tif: the server has no such file"),
        (Fault(r"_20180408_.*red\.tif", status=500), r"red\.tif: replied 500 .*4 times in a row"),
        (Fault(r"_20180408_.*red\.tif", kind="truncate"), r"red\.tif: the response was cut short, 4 times"),
        (Fault(r"_20180408_.*red\.tif", status=403), r"red\.tif: refused \(403\)"),
        (Fault("/search", status=500), r"search: replied 500 .*4 times in a row"),
        (Fault("/search", status=429, retry_after_s=4000), "asks to wait 4000 s"),
    ],
)
def test_lasting_faults_are_refused_and_leave_no_mosaic(
    fault: Fault, message: str, three: Path, tmp_path: Path
) -> None:
    with ProviderServer(three, faults=[fault]) as server, pytest.raises(TeselaError, match=message):
        mosaic(server.address, tmp_path / "out", collection="sentinel-2-l2a")
    assert not list((tmp_path / "out").glob("*.tif"))


def test_a_run_that_failed_continues_from_its_last_tile(tmp_path: Path) -> None:
    grid = GeoBox((300, 300), GRID.affine, GRID.crs)
    rng = np.random.default_rng(1)
    passes = []
    for day in (3, 8):
        one = seen(day, 100 * day, grid=grid)
        noisy = {
            band: values + rng.integers(0, 50, grid.shape, np.uint16) for band, values in one.values.items()
        }
        passes.append(Acquisition(noisy, one.scl, grid, one.moment))
    folder = catalogue_of(tmp_path / "provider", passes)
    options: dict[str, object] = {"area": Area(grid), "memory": 1 << 20, "collection": "sentinel-2-l2a"}
    calm = mosaic(str(folder), tmp_path / "calm", **options)
    assert calm.tiles == 9
    fault = Fault(r"_20180408_.*blue\.tif", status=503)
    with ProviderServer(folder, faults=[fault]) as server:
        healthy = mosaic_until_failure(server, fault, tmp_path / "out", options)
        made = mosaic(server.address, tmp_path / "out", **options)
    assert healthy == "503"
    assert made.resumed >= 1
    assert made.image.read_bytes() == calm.image.read_bytes()
    again = mosaic(str(folder), tmp_path / "calm", **options)
    assert again.resumed == again.tiles  # nothing to do


def mosaic_until_failure(server: ProviderServer, fault: Fault, out: Path, options: dict[str, object]) -> str:
    """Let the server fail for good once a tile is done, then heal it."""
    server.faults.clear()

    def watch(done: int, total: int) -> None:
        if done == 1:
            server.faults.append(fault)

    with pytest.raises(NetworkError, match="503") as caught:
        mosaic(server.address, out, progress=watch, **options)
    server.faults.clear()
    return "503" if "503" in str(caught.value) else ""


def test_an_expired_signature_is_renewed_while_tiles_are_read(tmp_path: Path) -> None:
    grid = GeoBox((300, 300), GRID.affine, GRID.crs)
    folder = catalogue_of(tmp_path / "provider", [seen(3, 400, grid=grid)], "planetary-computer")
    with ProviderServer(folder, signed=True) as server:
        made = mosaic(
            f"planetary-computer={server.address}",
            tmp_path / "out",
            area=Area(grid),
            memory=1 << 20,
            progress=lambda done, total: server.expire(),
        )
    assert (read(made.image)[0] == 400).all()
    assert made.tiles == 9


def test_files_that_need_a_signature_are_refused_without_one(tmp_path: Path) -> None:
    folder = catalogue_of(tmp_path / "provider", [seen(3, 400)], "planetary-computer")
    with ProviderServer(folder, signed=True) as server, pytest.raises(NetworkError, match="asks for a key"):
        mosaic(server.address, tmp_path / "out", collection="sentinel-2-l2a")


def test_an_item_without_the_band_is_left_out_and_counted_or_refused(tmp_path: Path) -> None:
    folder = catalogue_of(tmp_path / "provider", [seen(3, 400), seen(8, 800)])
    write_acquisition(folder, seen(13, 600), layout="earth-search", without=["B03"])
    made = mosaic(str(folder / "items"), tmp_path / "out")
    assert (read(made.image)[0] == 600).all()  # the mean of the two that have all bands
    assert [(one.name, one.reason.split(" (")[0]) for one in made.left_out] == [
        ("S2A_30SVF_20180413_0_L2A", "lacks B03")
    ]
    with pytest.raises(InputError, match="1 of 3 items cannot be used: S2A_30SVF_20180413_0_L2A lacks B03"):
        mosaic(str(folder / "items"), tmp_path / "refused", incomplete="refuse")
    with pytest.raises(InputError, match="3 of 3 items cannot be used"):
        mosaic(str(folder / "items"), tmp_path / "none", bands="B11")


def test_tiles_of_two_zones_of_one_pass_join_without_counting_twice(tmp_path: Path) -> None:
    # about 6 degrees west of Greenwich, where zones 29 and 30 meet: each tile shows more than half of the area
    middle = GeoBox((SIDE, SIDE), Affine(10, 0, 232_000, 0, -10, 4_090_000), "EPSG:32630")
    west, _, _, north = bounds_in(middle, "EPSG:32629")
    left = GeoBox((240, 130), Affine(10, 0, west - 200, 0, -10, north + 200), "EPSG:32629")
    right = GeoBox((SIDE, 100), Affine(10, 0, 232_600, 0, -10, 4_090_000), "EPSG:32630")
    folder = catalogue_of(
        tmp_path / "provider", [seen(3, 400, grid=left, tile="29SQA"), seen(3, 400, grid=right, tile="30STF")]
    )
    made = mosaic(str(folder), tmp_path / "out", area=Area(middle))
    assert made.observations == 1
    assert made.scenes == 2
    assert made.gaps == 0
    assert (read(made.image)[0] == 400).all()
    assert (read(made.count) == 1).all()


def test_where_two_tiles_of_a_pass_overlap_the_first_gives_the_pixel(tmp_path: Path) -> None:
    tiles = [seen(3, 400, tile="30SVF"), seen(3, 800, tile="30SWF", clouds={(0, 0): 9})]
    made = mosaic(str(catalogue_of(tmp_path / "provider", tiles)), tmp_path / "out")
    assert (read(made.image)[0] == 400).all()
    assert (read(made.count) == 1).all()


def test_an_observation_that_lacks_a_band_does_not_count(tmp_path: Path) -> None:
    first, second = seen(3, 400), seen(8, 800)
    second.values["B03"][:32, :32] = 0
    made = mosaic(str(catalogue_of(tmp_path / "provider", [first, second])), tmp_path / "out")
    image, count = read(made.image), read(made.count)[0]
    assert (image[:, :32, :32].reshape(3, -1).T == [400, 401, 402]).all()
    assert (image[0, 32:] == 600).all()
    assert (count[0, 0], count[40, 40]) == (1, 2)


def test_cloudy_scenes_are_left_out_with_the_reason(tmp_path: Path) -> None:
    passes = [replace(seen(3, 400), cloud_percent=20.0), replace(seen(8, 800), cloud_percent=60.0)]
    folder = catalogue_of(tmp_path / "provider", passes)
    made = mosaic(str(folder), tmp_path / "out", max_cloud=50)
    assert (read(made.image)[0] == 400).all()
    assert [(one.name, one.reason) for one in made.left_out] == [
        ("S2A_30SVF_20180408_0_L2A", "is cloudy (60 %)")
    ]
    with pytest.raises(InputError, match="All 2 scenes are left out"):
        mosaic(str(folder), tmp_path / "none", max_cloud=10)


def test_a_scene_named_is_left_out_and_an_unknown_name_is_refused(three: Path, tmp_path: Path) -> None:
    made = mosaic(str(three), tmp_path / "out", without=["S2A_30SVF_20180413_0_L2A"])
    assert (read(made.image)[0, 40:] == 450).all()
    with pytest.raises(InputError, match="No scene is called S2A_nope"):
        mosaic(str(three), tmp_path / "no", without=["S2A_nope"])


def test_the_best_rule_prefers_views_far_from_clouds(tmp_path: Path) -> None:
    folder = catalogue_of(tmp_path / "provider", [seen(16, 400, clouds={(2, 2): 9}), seen(15, 800)])
    image = read(mosaic(str(folder), tmp_path / "out", rule="best").image)[0]
    assert (image == 800).all()


@pytest.mark.parametrize("rule", ["median", "best", "medoid"])
def test_tiles_leave_no_seams(rule: str, tmp_path: Path) -> None:
    grid = GeoBox((200, 260), GRID.affine, GRID.crs)
    rng = np.random.default_rng(2)
    passes = []
    for day in (3, 8, 13):
        one = seen(day, 100 * day, grid=grid, clouds={(day % 5, day % 7): 9})
        noisy = {
            band: values + rng.integers(0, 90, grid.shape, np.uint16) for band, values in one.values.items()
        }
        passes.append(Acquisition(noisy, one.scl, grid, one.moment))
    folder = catalogue_of(tmp_path / "provider", passes)
    shared: dict[str, object] = {"area": Area(grid), "rule": rule, "buffer": 100}
    whole = mosaic(str(folder), tmp_path / "whole", **shared)
    tiled = mosaic(str(folder), tmp_path / "tiled", memory=1, **shared)
    assert (whole.tiles, tiled.tiles) == (1, 6)
    assert whole.image.read_bytes() == tiled.image.read_bytes()


def test_one_command_goes_from_an_address_to_a_mosaic(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = "-3.673,36.943,-3.660,36.953"
    with ProviderServer(three) as server:
        words = ["mosaic", "sentinel-2", f"--area={box}", "--year", "2018", "--months", "4", "--bands", "rgb"]
        code = main([*words, "--catalogue", f"earth-search={server.address}", "-o", str(tmp_path / "out")])
    output = capsys.readouterr().out
    assert code == 0
    assert "without a clear view" in output
    assert (tmp_path / "out" / "2018-04.tif").exists()
    assert (tmp_path / "out" / "manifest.json").exists()


def test_the_command_reports_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "mosaic",
        "sentinel-2",
        "--area=-3.6,36.9,-3.5,37.0",
        "--year",
        "2018",
        "-o",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--catalogue", "http://no-such-host.invalid/v1"]) == 1
    output = capsys.readouterr().err.strip()
    assert output.startswith("tesela: no-such-host.invalid cannot be found: is there a network?")
    assert "\n" not in output
    assert main([*words, "--catalogue", str(tmp_path), "--workers", "0"]) == 1
    assert "0 workers read no file" in capsys.readouterr().err
