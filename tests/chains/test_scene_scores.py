"""Scores scene by scene: lines, the joint page, and what `tesela compare` gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tesela.chains.lulucf.table import Row, Table
from tesela.chains.metrics import read_metrics
from tesela.chains.scene_scores import (
    SceneScore,
    read_scene_scores,
    scene_rows,
    scene_tiles,
    write_joint_page,
)
from tesela.core.errors import InputError
from tesela.io.legends import open_legend

SCENES = (
    SceneScore(
        "a",
        "2018-04",
        "test patches only",
        100,
        0.75,
        0.5,
        0.6,
        {"Water": 0.5, "Bare": None},
        "a/report.html",
    ),
    SceneScore("a", "2018-07", "the whole map", 100, 0.5, 0.25, 0.3, {"Water": 0.25, "Bare": None}),
    SceneScore("b", "", "no test patch there"),
)


def test_scenes_without_scores_are_named_with_the_reason(tmp_path: Path) -> None:
    assert (
        SCENES[0]
        .line()
        .endswith("a 2018-04: accuracy 0.7500, mIoU 0.5000, macro F1 0.6000 on test patches only")
    )
    assert SCENES[2].line() == "scene     b: not assessed, no test patch there"
    total = {"accuracy": 0.6, "miou": 0.4, "macro_f1": 0.5}
    page = write_joint_page(tmp_path / "report.html", SCENES, title="t", total=total, facts={"Seed": "0"})
    text = page.read_text(encoding="utf-8")
    assert "2 of 3 scenes assessed" in text
    assert "not assessed: no test patch there" in text
    assert '<a href="a/report.html">a</a>' in text
    nothing = write_joint_page(tmp_path / "none.html", SCENES[2:], title="t", total=None, facts={})
    assert "0 of 1 scenes assessed" in nothing.read_text(encoding="utf-8")


def test_dates_stand_side_by_side_in_a_comparison() -> None:
    assert read_scene_scores(scene_rows(SCENES)) == SCENES
    tiles = scene_tiles(SCENES)
    assert {name: metric.overall for name, metric in tiles.items()} == {"a 2018-04": 0.5, "a 2018-07": 0.25}
    assert scene_tiles(SCENES[:1]) == {}, "one scene is the whole score"
    with pytest.raises(InputError, match="No map was evaluated"):
        read_metrics({}, open_legend("corine-1"))


def test_a_cascade_without_test_patches_is_compared_by_the_first_new_scene() -> None:
    context = Row("context", "loss", "test patches", 0.9, 0.8, 0.85, 100, {"Water": 0.8})
    new = Row("cascade", "loss", "b, the whole map", 0.5, 0.4, 0.45, 100, {"Water": 0.4})
    table = Table((context, new), ("loss",), SCENES)
    metrics = table.metrics()
    assert [metric.overall for metric in metrics] == [0.4, 0.45, 0.5, 0.8]
    assert list(metrics[0].tiles) == ["a 2018-04", "a 2018-07"]
    assert Table.from_dict(table.to_dict()) == table
    assert table.lines()[-1] == "scene     b: not assessed, no test patch there"
    with pytest.raises(InputError, match="No map was evaluated"):
        Table((context,), ("loss",), SCENES).metrics()
