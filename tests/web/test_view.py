"""The view page: it shows the values of the rasters, and accepts no requests of other sites."""

import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from starlette.testclient import TestClient

from tesela.core.errors import GridError, InputError
from tesela.core.legend import LandClass, Legend
from tesela.io.images import write_bands
from tesela.io.legends import open_legend
from tesela.io.maps import ScoreWriter, write_map
from tesela.io.pyramid import Pyramid, TileReader, class_counts, has_overviews
from tesela.io.scenes import open_scene
from tesela.web.layers import Pool
from tesela.web.view import ruler, slow_files, view_app
from view_page import BASE, open_page, serve

LEGEND = Legend(
    "demo",
    (
        LandClass(1, "w", "Water & ice", "#0000ff"),
        LandClass(2, "l", "<b>Land</b>", "#ffff00"),
        LandClass(7, "f", "Wood", "#008800"),
        LandClass(9, "u", "Urban", "#ff0000"),
    ),
)
GRID = GeoBox((700, 1100), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32630")


def stripes(shift: int = 0, grid: GeoBox = GRID) -> NDArray[np.uint8]:
    """Water, land and wood from left to right; a corner of nodata."""
    rows, cols = grid.shape
    at = np.arange(cols)[None, :].repeat(rows, axis=0) + shift
    values = np.where(at < 400, 1, np.where(at < 800, 2, 7)).astype(np.uint8)
    values[:60, :60] = 0
    return values


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A map of 2024, one of 2012, a reference in another system, imagery twice as fine, a confidence."""
    folder = tmp_path_factory.mktemp("view")
    write_map(folder / "map_2024.tif", stripes(), GRID, legend=LEGEND)
    write_map(folder / "map_2012.tif", stripes(100), GRID, legend=LEGEND)
    away = GeoBox.from_bbox((-3.05, 36.95, -2.85, 37.06), "EPSG:4326", resolution=0.0002)
    write_map(folder / "reference.tif", np.full(away.shape, 9, np.uint8), away, legend=LEGEND)
    fine = GeoBox((1400, 2200), GRID.affine * Affine.scale(0.5), GRID.crs)
    red = np.linspace(0, 3000, 2200)[None, :].repeat(1400, axis=0)
    bands = np.stack([red, red[::-1], red * 0 + 900]).astype(np.int16)
    bands[:, -200:, :] = -1
    write_bands(folder / "image.tif", bands, fine, names=["red", "green", "blue"], nodata=-1, scale=1e-4)
    with ScoreWriter(folder / "confidence.tif", GRID, ["confidence"], scale=1.0, unit="%") as writer:
        scores = np.tile(np.arange(1100) // 11, (700, 1)).astype(np.uint8)
        scores[600:] = 255
        writer.write(0, 0, scores)
    return {path.stem: path for path in folder.glob("*.tif")}


def make(files: dict[str, Path]) -> Any:
    return view_app(
        files["map_2024"],
        scene=open_scene(files["image"]),
        reference=files["reference"],
        confidence=files["confidence"],
        history=[files["map_2012"]],
    )


@pytest.fixture(scope="module")
def client(files: dict[str, Path]) -> TestClient:
    return TestClient(make(files), base_url=BASE)


def values_of(client: TestClient, layer: int, level: int, x: int, y: int) -> NDArray[np.uint8]:
    answer = client.get(f"/tiles/{layer}/{level}/{x}/{y}")
    assert answer.status_code == 200
    return np.frombuffer(answer.content, np.uint8).reshape(512, 512)


# Tiles


@given(rows=st.integers(1, 5000), cols=st.integers(1, 5000), level=st.integers(0, 4))
def test_the_tiles_of_a_level_cover_the_grid_once(rows: int, cols: int, level: int) -> None:
    pyramid = Pyramid(GeoBox((rows, cols), GRID.affine, GRID.crs))
    side = 512 << level
    touching = [(x, y) for y in range(-1, 11) for x in range(-1, 11) if pyramid.has(level, x, y)]
    assert len(touching) == -(-rows // side) * -(-cols // side)
    assert len([1 for x, y in touching if pyramid.levels == level + 1]) <= 1
    corner = pyramid.tile(level, 1, 2).affine
    left, top = GRID.affine @ (side, 2 * side)
    assert (corner.c, corner.f) == (left, top)
    assert corner.a == 10 * 2**level


@pytest.mark.parametrize(("level", "x", "y"), [(0, 0, 0), (0, 2, 1), (1, 0, 0), (1, 1, 0), (2, 0, 0)])
def test_a_tile_of_the_map_holds_its_values(client: TestClient, level: int, x: int, y: int) -> None:
    step = 1 << level
    wanted = np.zeros((512 * step, 512 * step), np.uint8)
    part = stripes()[y * 512 * step : (y + 1) * 512 * step, x * 512 * step : (x + 1) * 512 * step]
    wanted[: part.shape[0], : part.shape[1]] = part
    tile = values_of(client, 0, level, x, y)
    assert (tile != wanted[::step, ::step]).mean() <= (0 if level == 0 else 0.005)  # borders between classes


def test_a_tile_of_a_reference_in_another_system_lies_on_the_map(client: TestClient) -> None:
    names = [layer["name"] for layer in client.get("/api/view").json()["layers"]]
    assert names == ["Map", "map_2012", "Reference", "Image", "Confidence"]
    assert set(np.unique(values_of(client, 2, 1, 0, 0))) == {9}


def test_a_tile_of_the_confidence_holds_per_cents(client: TestClient) -> None:
    tile = values_of(client, 4, 0, 0, 1)
    assert tile[0, :400].tolist() == (np.arange(400) // 11).tolist()
    assert (tile[600 - 512 :] == 255).all()


def test_imagery_is_a_jpeg_or_where_data_is_missing_a_png_with_holes(client: TestClient) -> None:
    whole = client.get("/tiles/3/0/0/0")
    assert whole.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(whole.content)) as picture:
        red = np.asarray(picture)[100, :, 0].astype(int)
        assert picture.size == (512, 512)
    assert red[500] > red[10] + 60
    edge = client.get("/tiles/3/0/0/1")
    assert edge.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(edge.content)) as picture:
        alpha = np.asarray(picture)[..., 3]
    assert (alpha[:88] == 255).all()
    assert (alpha[90:] == 0).all()
    finer = client.get("/tiles/3/-1/0/0")
    assert finer.status_code == 200
    assert client.get("/api/view").json()["layers"][3]["finest"] == -1


@pytest.mark.parametrize(
    "path",
    [
        *("/tiles/9/0/0/0", "/tiles/0/9/0/0", "/tiles/0/0/3/0", "/tiles/0/0/-1/0", "/tiles/0/-99/0/0"),
        *("/tiles/0/0/0/99999999999", "/tiles/../view.py/0/0", "/tiles/map_2024.tif/0/0/0", "/etc/passwd"),
        *("/static/../view.py", "/static/%2e%2e/view.py"),
    ],
)
def test_what_is_no_tile_of_a_layer_is_not_found(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_truncated_file_gives_an_error_in_words_and_its_other_tiles_are_served(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).choice(np.array(LEGEND.values, np.uint8), (2000, 2000))
    grid = GeoBox((2000, 2000), GRID.affine, GRID.crs)
    path = Path(write_map(tmp_path / "m.tif", noise, grid, legend=LEGEND).path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100_000)  # overviews come first in a COG
    client = TestClient(view_app(path), base_url=BASE)
    last = client.get("/tiles/0/0/3/3")
    assert last.status_code == 400
    assert "a tile cannot be read" in last.json()["error"]
    assert np.array_equal(values_of(client, 0, 0, 0, 0), noise[:512, :512])


# Figures


def test_areas_are_exact_with_an_attribute_table_beside_the_map(
    client: TestClient, files: dict[str, Path]
) -> None:
    classes = client.get("/api/view").json()["layers"][0]["classes"]
    pixels = np.bincount(stripes().ravel(), minlength=10)
    assert {item["value"]: item["ha"] for item in classes} == {
        value: pytest.approx(pixels[value] / 100) for value in LEGEND.values
    }
    assert sum(item["share"] for item in classes) == pytest.approx(1)
    counts, exact = class_counts(files["map_2024"])
    assert exact
    assert counts[0] == 3600


def test_areas_of_a_map_without_a_table_are_estimated_and_marked(tmp_path: Path) -> None:
    grid = GeoBox((3000, 5000), GRID.affine, GRID.crs)
    path = Path(write_map(tmp_path / "m.tif", stripes(grid=grid), grid, legend=LEGEND).path)
    Path(f"{path}.aux.xml").unlink()
    counts, exact = class_counts(path)
    assert not exact
    assert counts[7] == pytest.approx((stripes(grid=grid) == 7).sum(), rel=0.01)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<",
        "<PAMDataset/>",
        "<a><GDALRasterAttributeTable><Row><F>x</F></Row></GDALRasterAttributeTable></a>",
    ],
)
def test_an_invalid_table_is_ignored(tmp_path: Path, text: str) -> None:
    path = Path(write_map(tmp_path / "m.tif", stripes(), GRID, legend=LEGEND).path)
    Path(f"{path}.aux.xml").write_text(text, encoding="utf-8")
    assert class_counts(path)[0][7] == (stripes() == 7).sum()


def test_a_pixel_returns_the_values_of_all_layers(client: TestClient) -> None:
    pixel = client.get("/api/at", params={"row": 100, "col": 350}).json()
    assert pixel["values"] == [1, 2, 9, {"red": 0.0955, "green": 0.0955, "blue": 0.09}, 31]
    assert (pixel["x"], pixel["y"]) == (503_505.0, 4_098_995.0)
    assert pixel["lon"] == pytest.approx(-2.96055, abs=1e-4)
    assert pixel["lat"] == pytest.approx(37.0371, abs=1e-3)
    assert client.get("/api/at", params={"row": 0, "col": 0}).json()["values"][0] is None


@pytest.mark.parametrize(
    ("query", "status"), [("row=0", 400), ("row=a&col=1", 400), ("row=700&col=0", 404), ("row=-1&col=0", 404)]
)
def test_a_pixel_outside_the_map_is_refused(client: TestClient, query: str, status: int) -> None:
    assert client.get(f"/api/at?{query}").status_code == status


def test_the_ruler_measures_metres_in_any_system() -> None:
    assert ruler(GRID) == pytest.approx([10.0] * 9, rel=5e-4)
    degrees = GeoBox((60, 2), Affine(0.001, 0, 0, 0, -1, 60), "EPSG:4326")  # 60 degrees north to the equator
    metres = ruler(degrees)
    assert metres[0] == pytest.approx(111.32 * np.cos(np.radians(59.5)), rel=0.01)
    assert metres[-1] == pytest.approx(111.32, rel=0.01)
    mercator = GeoBox((10, 10), Affine(10, 0, 0, 0, -10, 8_399_737.9), "EPSG:3857")  # 60 degrees north
    assert ruler(mercator)[0] == pytest.approx(5.0, rel=0.01)


def test_a_large_raster_without_overviews_is_reported(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "bare.tif"
    profile = {
        "driver": "GTiff",
        "width": 3000,
        "height": 8,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32630",
    }
    with rasterio.open(path, "w", transform=GRID.affine, **profile):
        pass
    assert not has_overviews(path)
    assert slow_files([files["map_2024"], path]) == [str(path)]


def test_a_class_raster_beside_that_says_no_legend_takes_the_one_of_the_map(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "bare_1999.tif"
    profile = {
        "driver": "GTiff",
        "width": 1100,
        "height": 700,
        "count": 1,
        "dtype": "uint8",
        "crs": "EPSG:32630",
    }
    with rasterio.open(path, "w", transform=GRID.affine, **profile) as data:
        data.write(stripes(), 1)
    layers = (
        TestClient(view_app(files["map_2024"], history=[path]), base_url=BASE)
        .get("/api/view")
        .json()["layers"]
    )
    assert (layers[1]["legend"], layers[1]["year"]) == ("demo", "1999")


def test_a_raster_without_confidence_is_refused_before_the_page_opens(files: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="a confidence raster has one of uint8"):
        view_app(files["map_2024"], confidence=files["image"])


def test_a_raster_of_another_area_is_refused_before_the_page_opens(
    files: dict[str, Path], tmp_path: Path
) -> None:
    far = GeoBox((9, 9), Affine(10.0, 0.0, 900_000.0, 0.0, -10.0, 4_100_000.0), "EPSG:32629")
    write_map(tmp_path / "far_1999.tif", np.ones((9, 9), np.uint8), far, legend=LEGEND)
    write_bands(tmp_path / "image.tif", np.ones((1, 9, 9), np.uint8), far, names=("pan",))
    with pytest.raises(GridError, match=r"far_1999\.tif extends over .*they do not overlap"):
        view_app(files["map_2024"], history=[tmp_path / "far_1999.tif"])
    with pytest.raises(GridError, match=r"image extends over .*they do not overlap"):
        view_app(files["map_2024"], scene=open_scene(tmp_path / "image.tif"))


def test_a_reader_that_failed_is_not_lent_again() -> None:
    made: list[int] = []

    def open_one() -> int:
        made.append(1)
        return len(made)

    pool = Pool(open_one)
    with pytest.raises(InputError, match="broken"), pool.lend():
        raise InputError("broken")
    with pool.lend() as second:
        assert second == 2
    with pool.lend() as again:
        assert again == 2


def test_tiles_are_read_by_many_threads_at_once(client: TestClient) -> None:
    wanted = [(0, 0, x, y) for x in range(3) for y in range(2)] * 6
    alone = {at: client.get("/tiles/{}/{}/{}/{}".format(*at)).content for at in set(wanted)}
    equal: list[bool] = []
    threads = [
        threading.Thread(
            target=lambda at=at: equal.append(
                client.get("/tiles/{}/{}/{}/{}".format(*at)).content == alone[at]
            )
        )
        for at in wanted
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert equal == [True] * len(wanted)


# Who may ask


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_other_sites_get_nothing(client: TestClient, headers: dict[str, str]) -> None:
    for path in ("/", "/api/view", "/tiles/0/0/0/0"):
        assert client.get(path, headers=headers).status_code == 403


def test_the_page_names_no_path_of_this_machine_and_loads_nothing_from_elsewhere(
    client: TestClient, files: dict[str, Path]
) -> None:
    folder = str(files["map_2024"].parent)
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    texts = [page.text, client.get("/api/view").text, client.get("/api/at?row=1&col=1").text]
    scripts = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert "/static/view.js" in scripts
    texts += [client.get(path).text for path in [*scripts, "/static/canvas.js", "/static/tiles.js"]]
    assert not any(folder in text for text in texts)
    assert not any(re.search(r"https?://(?!www\.w3\.org)", text) for text in texts)


# In a browser


@pytest.fixture(scope="module")
def address(files: dict[str, Path]) -> Iterator[str]:
    with serve(make(files)) as address:
        yield address


def colour_at(page: Any, x: float, y: float) -> list[int]:
    """Red, green and blue at a position of the canvas, in CSS pixels from its corner."""
    stage = page.locator("#canvas").bounding_box()
    clip = {"x": stage["x"] + x, "y": stage["y"] + y, "width": 1, "height": 1}
    with Image.open(io.BytesIO(page.screenshot(clip=clip))) as picture:
        return list(picture.convert("RGB").getpixel((0, 0)))


def position_of(page: Any, col: float, row: float) -> tuple[float, float]:
    """Position of a map pixel on the canvas: the whole map fills nine tenths of it."""
    width, height = page.evaluate("[canvas.clientWidth, canvas.clientHeight]")
    zoom = 0.9 * min(width / 1100, height / 700)
    return width / 2 + (col - 550) * zoom, height / 2 + (row - 350) * zoom


def present_row_of(page: Any, row: float) -> float:
    """Position of a row of the map, by the view in the address."""
    _, middle, zoom = map(float, page.evaluate("location.hash").removeprefix("#").split("/"))
    return float(page.evaluate("canvas.clientHeight")) / 2 + (row - middle) * zoom


def test_in_a_browser_a_finer_class_of_earlier_years_is_no_change(browser: Any, tmp_path: Path) -> None:
    fine, coarse = open_legend("corine-3"), open_legend("corine-2")
    columns = np.arange(1100)[None, :].repeat(700, axis=0) < 550
    earlier = np.where(columns, fine["321"].value, fine["211"].value).astype(np.uint8)
    write_map(tmp_path / "map_2012.tif", earlier, GRID, legend=fine)
    now = np.full((700, 1100), coarse["32"].value, np.uint8)
    write_map(tmp_path / "map_2024.tif", now, GRID, legend=coarse)
    with serve(view_app(tmp_path / "map_2024.tif", history=[tmp_path / "map_2012.tif"])) as address:
        page, trouble = open_page(browser, address, viewport={"width": 1280, "height": 800})
        stage = page.locator("#canvas").bounding_box()
        for col, code, changes in ((100, "321", 0), (1000, "211", 1)):
            x, y = position_of(page, col, 100)
            page.mouse.click(stage["x"] + x, stage["y"] + y)
            page.wait_for_selector(f"#values dd:has-text('{code}')")
            assert page.locator("#values .changed").count() == changes
        assert trouble == []
        page.close()


def test_in_a_browser_the_boundary_moves_and_a_click_shows_the_class(browser: Any, address: str) -> None:
    page, trouble = open_page(browser, address, viewport={"width": 1280, "height": 800})
    assert page.locator("#left-tag").inner_text() == "Image"
    assert page.locator("#right-tag").inner_text() == "Map 2024"
    land, wood = position_of(page, 700, 300), position_of(page, 1000, 300)
    assert colour_at(page, *land) == [255, 255, 0]
    assert colour_at(page, *wood) == [0, 0x88, 0]
    box = page.locator("#swipe").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 300, steps=4)
    page.mouse.up()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(50)
    assert int(page.locator("#swipe").get_attribute("aria-valuenow")) > 60
    assert colour_at(page, *land) != [255, 255, 0]  # imagery now
    assert colour_at(page, *wood) == [0, 0x88, 0]
    stage = page.locator("#canvas").bounding_box()
    x, y = position_of(page, 350.5, 100.5)
    page.mouse.click(stage["x"] + x, stage["y"] + y)
    page.wait_for_selector("#values dl")
    terms = dict(
        zip(
            page.locator("#values dt").all_inner_texts(),
            page.locator("#values dd").all_inner_texts(),
            strict=True,
        )
    )
    assert terms["map_2012"] == "l <b>Land</b>"  # shown as text
    assert terms["Map 2024"] == "w Water & ice"
    assert page.locator("#values .changed").all_inner_texts() == ["w Water & ice"]
    assert terms["Reference"] == "u Urban"
    assert terms["Confidence"] == "31 %"
    assert terms["EPSG:32630"] == "503505 E, 4098995 N"
    assert trouble == []
    page.close()


def test_in_a_browser_the_keys_zoom_and_the_legend_counts_the_view(browser: Any, address: str) -> None:
    page, trouble = open_page(browser, address, viewport={"width": 1280, "height": 800})
    rows = page.locator("#legend tbody tr").all_inner_texts()
    assert [row.split("\t")[1].strip() for row in rows] == ["2,764", "2,800", "2,100"]
    page.locator("#canvas").focus()
    before = page.locator("#scale").inner_text()
    page.select_option("#left", label="map_2012")
    head = page.locator("#legend th").all_inner_texts()
    assert head == ["class", "ha 2012", "ha 2024"]
    rows = page.locator("#legend tbody tr").all_inner_texts()
    assert [row.split("\t")[1].strip() for row in rows] == ["2,064", "2,800", "2,800"]
    page.select_option("#left", label="Map 2024")
    page.locator("#canvas").focus()
    page.keyboard.press("Shift+ArrowRight")
    for _ in range(7):
        page.keyboard.press("+")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    assert page.locator("#scale").inner_text() != before
    seen = [float(text.replace("–", "0")) for text in page.locator("#legend td.muted").all_inner_texts()]
    assert seen[0] == 0
    assert seen[2] > 60
    where = page.evaluate("location.hash")
    assert re.fullmatch(r"#[\d.]+/[\d.]+/[\d.]+", where)
    page.locator("#legend .class").nth(2).click()
    assert page.locator("#legend .class").nth(2).get_attribute("aria-pressed") == "true"
    page.keyboard.press("g")
    assert page.locator("#safe").get_attribute("aria-pressed") == "true"
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert trouble == []
    page.close()
    again, trouble = open_page(browser, address + where, viewport={"width": 1280, "height": 800})
    assert again.evaluate("location.hash") == where
    again.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_the_page_fits_and_a_touch_shows_the_class(
    browser: Any, address: str, scheme: str
) -> None:
    page, trouble = open_page(
        browser,
        address,
        viewport={"width": 375, "height": 700},
        color_scheme=scheme,
        has_touch=True,
        is_mobile=True,
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    stage = page.locator("#canvas").bounding_box()
    y = position_of(page, 550, 650)[1]
    page.touchscreen.tap(stage["x"] + 300, stage["y"] + y)
    page.wait_for_selector("#values dl", state="visible")
    assert "f Wood" in page.locator("#values").inner_text()
    page.wait_for_timeout(300)
    pin, stage = page.locator("#pin").bounding_box(), page.locator("#canvas").bounding_box()
    assert stage["height"] < 500  # the values are below
    assert abs(pin["y"] - stage["y"] - present_row_of(page, 650)) < 2
    assert trouble == []
    page.close()


def test_the_command_serves_the_page_and_prints_its_address(files: dict[str, Path]) -> None:
    import urllib.request

    words = ["view", str(files["map_2024"]), "--port", "0"]
    code = "from tesela.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        address = running.stdout.readline().removeprefix("page  ").strip()
        try:
            with urllib.request.urlopen(f"{address}api/view", timeout=20) as answer:
                assert json.loads(answer.read())["layers"][0]["name"] == "Map"
        finally:
            running.terminate()


def test_a_new_server_uses_no_cached_tiles_of_an_older_map(files: dict[str, Path]) -> None:
    tokens = {
        TestClient(view_app(files["map_2024"]), base_url=BASE).get("/api/view").json()["token"]
        for _ in range(2)
    }
    assert len(tokens) == 2


def test_tiles_travel_compressed(client: TestClient) -> None:
    answer = client.get("/tiles/0/0/0/0")
    assert answer.headers["content-encoding"] == "deflate"
    assert int(answer.headers["content-length"]) < 5000


def test_a_tile_finer_than_a_class_map_repeats_its_pixels(files: dict[str, Path]) -> None:
    reader = TileReader(files["map_2024"], Pyramid(GRID))
    values = reader.read(-2, 3, 1)  # columns 384 to 511 of the map, four times as wide
    reader.close()
    assert values[100, :64].tolist() == [1] * 64
    assert values[100, 64:].tolist() == [2] * 448
