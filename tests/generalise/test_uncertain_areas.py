"""Uncertain areas of a map as a queue: which come first, what the page shows of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from starlette.testclient import TestClient

from reviewing import FROM_HOME, HOME, LEGEND, verdict
from tesela.cli import main
from tesela.core.errors import InputError
from tesela.generalise.uncertain_areas import rank_areas
from tesela.generalise.uncertainty import UncertaintyFiles
from tesela.generalise.update_apply import apply_update
from tesela.io.images import write_bands
from tesela.io.maps import ClassMap, ScoreWriter, write_map
from tesela.io.scenes import open_scene
from tesela.io.update_queue import read_queue
from tesela.web.review import review_app

X, Y = 500_000.0, 4_100_000.0
GRID = GeoBox((64, 96), Affine(10, 0, X, 0, -10, Y), "EPSG:25830")


@pytest.fixture
def source(tmp_path: Path) -> ClassMap:
    """Forest with a lake on its left; one block of forest is nearly crops, a corner of another is unsure."""
    values = np.full((64, 96), 2, np.uint8)
    values[:, :16] = 1
    probabilities = np.full((3, 64, 96), 8, np.uint8)  # of 254
    probabilities[0, :, :16] = probabilities[1, :, 16:] = 238
    probabilities[1:, 0:32, 64:96] = np.array([130, 116], np.uint8)[:, None, None]
    probabilities[1:, 32:40, 32:40] = np.array([170, 76], np.uint8)[:, None, None]
    probabilities[:, 48:, 88:] = 255
    for name, stack, scale in (
        ("probabilities", probabilities, 1 / 254),
        ("confidence", np.where(probabilities[:1] == 255, 255, probabilities.max(axis=0)[None] // 3), 1.0),
    ):
        names = LEGEND.codes if len(stack) == 3 else [name]
        with ScoreWriter(tmp_path / f"{name}.tif", GRID, names, scale=scale, unit="%") as writer:
            writer.write(0, 0, stack.astype(np.uint8))
    return write_map(tmp_path / "map.tif", values, GRID, legend=LEGEND)


def test_the_most_uncertain_area_of_each_block_comes_with_its_second_class(
    source: ClassMap, tmp_path: Path
) -> None:
    files = UncertaintyFiles(probabilities=tmp_path / "probabilities.tif")
    found = rank_areas(source, tmp_path / "queue.gpkg", files, most=3)
    frame = read_queue(found.path).proposals
    assert found.candidates == 6
    assert frame["old_code"].tolist() == ["f", "f", "w"]
    assert frame["new_code"].tolist()[0] == "c"
    assert frame["uncertainty"].tolist()[0] == pytest.approx(1 - 14 / 254)
    assert frame.geometry.iloc[0].bounds == (X + 640, Y - 320, X + 960, Y)
    assert frame["area_ha"].tolist()[0] == pytest.approx(10.24)
    block = read_queue(found.path).outlines().geometry
    assert block.loc[3].bounds == (X, Y - 320, X + 320, Y)
    assert frame.geometry.iloc[2].area == pytest.approx(160 * 320), "the lake, not its whole block"
    assert frame.geometry.iloc[1].bounds == (X + 320, Y - 640, X + 640, Y - 320)


def test_other_rasters_show_uncertainty_and_labels_take_areas_out(source: ClassMap, tmp_path: Path) -> None:
    by_confidence = UncertaintyFiles(confidence=tmp_path / "confidence.tif")
    first = rank_areas(source, tmp_path / "q.gpkg", by_confidence).frame.iloc[0]
    assert (first["new_code"], first.geometry.bounds[0]) == ("", X + 640)
    other = np.full((64, 96), 2, np.uint8)
    other[:, :16] = 1
    other[32:, 40:60] = 7
    against = write_map(tmp_path / "other.tif", other, GRID, legend=LEGEND)
    first = rank_areas(source, tmp_path / "q.gpkg", UncertaintyFiles(against=against)).frame.iloc[0]
    assert (first["new_code"], first["uncertainty"]) == ("c", pytest.approx(20 / 32))
    labels = np.zeros((64, 96), np.uint8)
    labels[:, 32:] = 2
    known = write_map(tmp_path / "labels.tif", labels, GRID, legend=LEGEND)
    frame = rank_areas(source, tmp_path / "q.gpkg", by_confidence, labels=known).frame
    assert frame.geometry.bounds["maxx"].tolist() == [X + 160] * 2, "the lake"


def test_a_reviewer_answers_and_what_cannot_be_ranked_is_refused(source: ClassMap, tmp_path: Path) -> None:
    queue = tmp_path / "queue.gpkg"
    scene = np.random.default_rng(0).integers(0, 255, (3, 64, 96), dtype=np.uint8)
    write_bands(tmp_path / "scene.tif", scene, GRID, names=("red", "green", "blue"))
    code = main(
        [
            "review",
            "rank",
            source.path,
            "--probabilities",
            str(tmp_path / "probabilities.tif"),
            "-o",
            str(queue),
        ]
    )
    assert code == 0
    page = TestClient(
        review_app(queue, images=[open_scene(tmp_path / "scene.tif")], reviewer="ana"), base_url=HOME
    )
    first = read_queue(queue).ids[0]
    given = verdict(first, "ana", quality=None, reference="c").model_dump(exclude={"at"}, mode="json")
    assert page.post("/api/verdicts", json=given, headers=FROM_HOME).status_code == 200
    assert read_queue(queue).proposals["decision"].tolist()[:2] == ["c", ""]
    with pytest.raises(InputError, match=r"no old layer to update; name it in \[\[corrections\]\]"):
        apply_update(queue, tmp_path / "new.gpkg")
    with pytest.raises(InputError, match="has 1 bands, the map 3 classes"):
        rank_areas(source, queue, UncertaintyFiles(probabilities=tmp_path / "confidence.tif"))
    with pytest.raises(InputError, match="nothing shows where this map is uncertain"):
        rank_areas(source, queue, UncertaintyFiles())


def test_the_command_reports_classes_and_refuses_options_of_the_other_kind(
    source: ClassMap, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rank = ["review", "rank", source.path, "--confidence", str(tmp_path / "confidence.tif")]
    assert main([*rank, "-o", str(tmp_path / "queue.gpkg"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [item["code"] for item in facts["classes"]] == ["f", "w"]
    assert main(rank) == 1
    assert "name the queue to write" in capsys.readouterr().err
    assert main(["review", "rank", "patches.parquet", "--labels", source.path]) == 1
    assert "is ranked by its own labels: leave labels out" in capsys.readouterr().err
