"""The view page of abundance maps: the largest class, shares, uncertainty, and the mixture of a clicked pixel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from starlette.testclient import TestClient

from tesela.core.errors import InputError, LegendError
from tesela.core.legend import LandClass, Legend
from tesela.core.spectra import Spectra
from tesela.io.abundance import AbundanceWriter
from tesela.io.cube_writer import CubeWriter
from tesela.io.maps import ScoreWriter, write_map
from tesela.io.spectra import write_spectra
from tesela.web.view import view_app
from view_page import BASE, open_page, serve

LEGEND = Legend(
    "demo",
    (
        LandClass(1, "w", "Water & ice", "#0000ff"),
        LandClass(4, "l", "<b>Land</b>", "#ffff00"),
        LandClass(7, "f", "Wood", "#008800"),
    ),
)
GRID = GeoBox((60, 80), Affine(500, 0, 400_000, 0, -500, 4_100_000), "EPSG:25830")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wood gives way to water from left to right, a tenth is land; the reference has a fifth."""
    folder = tmp_path_factory.mktemp("shares")
    across = np.linspace(0, 1, 80)[None].repeat(60, axis=0)
    for name, land in (("map", 0.1), ("reference", 0.2)):
        shares = np.stack([(1 - land) * across, np.full_like(across, land), (1 - land) * (1 - across)])
        shares[:, :5] = np.nan
        with AbundanceWriter(folder / f"{name}.tif", GRID, LEGEND) as writer:
            writer.write_shares(0, 0, shares)
    with ScoreWriter(
        folder / "uncertainty.tif", GRID, LEGEND.names, scale=1 / 254, unit="share", most=0.25
    ) as scores:
        scores.write(0, 0, np.full((3, 60, 80), 25, np.uint8))
    times = tuple(f"2013-{month:02d}" for month in range(1, 13))
    with CubeWriter(folder / "cube.zarr", GRID, times=times, bands=("red", "nir")) as cube:
        series = np.linspace(0.1, 0.4, 12)[:, None, None, None] * np.ones((12, 2, 60, 80))
        series[3, 0] = np.nan
        cube.write(0, 0, series)
    spectra = Spectra(("w", "f"), tuple(range(1, 13)), ("red", "nir"), np.full((2, 12, 2), 0.05))
    write_spectra(folder / "ends.csv", spectra)
    return {path.stem: path for path in folder.iterdir() if path.suffix in (".tif", ".zarr", ".csv")}


def make(files: dict[str, Path]) -> Any:
    return view_app(
        files["map"],
        reference=files["reference"],
        uncertainty=files["uncertainty"],
        cube=files["cube"],
        endmembers=files["ends"],
    )


@pytest.fixture(scope="module")
def client(files: dict[str, Path]) -> TestClient:
    return TestClient(make(files), base_url=BASE)


def tile_of(client: TestClient, layer: int) -> np.ndarray:
    return np.frombuffer(client.get(f"/tiles/{layer}/0/0/0").content, np.uint8).reshape(512, 512)[:60, :80]


def test_layers_are_the_largest_class_each_share_the_uncertainty_and_the_reference(
    client: TestClient,
) -> None:
    layers = client.get("/api/view").json()["layers"]
    names = ["Largest class", "w Water & ice", "l <b>Land</b>", "f Wood", "Uncertainty", "Reference"]
    assert [layer["name"] for layer in layers] == names
    assert [layer.get("group") for layer in layers] == [None, "share", "share", "share", None, None]
    hectares = [item["ha"] for item in layers[0]["classes"]]
    assert sum(hectares) == pytest.approx(55 * 80 * 25)
    assert hectares[1] == pytest.approx(
        0.1 * 55 * 80 * 25
    )  # the sum of the shares, though it is never the largest


def test_tiles_hold_the_largest_class_and_per_cents(client: TestClient) -> None:
    largest, land, deviation = (tile_of(client, layer) for layer in (0, 2, 4))
    assert (largest[:5] == 0).all()
    assert (largest[10, :39] == 7).all()
    assert (largest[10, 41:] == 1).all()
    assert (land[5:] == 10).all()
    assert (land[:5] == 255).all()
    assert (deviation[5:] == 40).all()  # 10 % of a cell on a scale that ends at 25 %


def test_a_pixel_has_its_mixture_beside_the_reference_and_its_series(client: TestClient) -> None:
    here = client.get("/api/at", params={"row": 30, "col": 79}).json()
    assert here["values"] == [1, 90, 10, 0, 10, 1]
    assert here["mixture"][0] == {"value": 1, "share": 0.9, "deviation": 0.0984, "reference": 0.8}
    series = here["series"]
    assert (series["times"][0], series["bands"]) == ("2013-01", ["red", "nir"])
    assert series["lines"][0][3] is None
    assert series["lines"][1][11] == pytest.approx(0.4)
    assert [item["value"] for item in series["endmembers"]] == [1, 7]
    assert "mixture" not in client.get("/api/at", params={"row": 0, "col": 0}).json()


def test_what_does_not_fit_the_map_is_refused_before_the_page_opens(
    files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"Endmembers are drawn beside the series of a pixel: also give the cube"
    ):
        view_app(files["map"], endmembers=files["ends"])
    write_map(tmp_path / "classes.tif", np.ones(GRID.shape, np.uint8), GRID, legend=LEGEND)
    with pytest.raises(
        InputError, match="is a class map; uncertainty, cube and endmembers are of abundance maps"
    ):
        view_app(tmp_path / "classes.tif", cube=files["cube"])
    other = Legend("other", LEGEND.classes[:2])
    with AbundanceWriter(tmp_path / "two.tif", GRID, other) as writer:
        writer.write_shares(0, 0, np.full((2, 60, 80), 0.5))
    with pytest.raises(LegendError, match="has shares of 'other', the map of 'demo'"):
        view_app(files["map"], reference=tmp_path / "two.tif")
    with pytest.raises(InputError, match="has 3 bands, but the map has 2 classes"):
        view_app(tmp_path / "two.tif", uncertainty=files["uncertainty"])
    half = GeoBox(GRID.shape, GRID.affine * Affine.translation(0.5, 0), GRID.crs)
    with CubeWriter(tmp_path / "half.zarr", half, times=("01",), bands=("red",)) as cube:
        cube.write(0, 0, np.zeros((1, 1, 60, 80)))
    with pytest.raises(InputError, match="has other pixels than"):
        view_app(files["map"], cube=tmp_path / "half.zarr")


def test_shares_and_uncertainty_carry_a_style_of_qgis_and_names_of_bands(files: dict[str, Path]) -> None:
    shares, deviations = (files[name].with_suffix(".qml").read_text() for name in ("map", "uncertainty"))
    assert 'type="singlebandpseudocolor"' in shares
    assert 'maximumValue="1"' in shares
    assert 'maximumValue="0.25"' in deviations
    with rasterio.open(files["map"]) as one, rasterio.open(files["uncertainty"]) as other:
        assert one.descriptions == other.descriptions == LEGEND.names


@pytest.fixture(scope="module")
def address(files: dict[str, Path]) -> Iterator[str]:
    with serve(make(files)) as address:
        yield address


def test_a_click_draws_the_mixture_and_the_series(browser: Any, address: str) -> None:
    page, trouble = open_page(browser, address, viewport={"width": 1200, "height": 800})
    page.locator("#canvas").click(position={"x": 700, "y": 400})
    page.wait_for_selector(".series svg path.own")
    rows = page.locator(".mixture tbody tr")
    assert rows.first.inner_text().startswith("w Water & ice")
    assert rows.count() == 3
    assert "<b>Land</b>" in page.locator(".mixture").inner_text()  # as text
    assert page.locator(".series path.end").count() == 2
    assert page.locator("#left optgroup option").count() == 3
    page.select_option("#left", label="f Wood")
    page.wait_for_timeout(200)
    assert "Share of f Wood" in page.locator("#legend").inner_text()
    assert trouble == []
    page.close()
