"""Results of a review: quality classes in the patch table, exported files, agreement."""

import json
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from reviewing import verdict
from tesela.cli import main
from tesela.core.errors import InputError
from tesela.patches.label_quality import AUTOMATIC, automatic_quality, with_quality
from tesela.patches.split import split_patches
from tesela.patches.table import PatchTable, open_patches
from tesela.web.log import VerdictLog, log_path
from tesela.web.patch_review import read_review


@pytest.fixture
def reviewed(table_path: Path, table: PatchTable) -> Path:
    """ana rated ten patches, bea four of them: two equal, one a step and one two steps apart."""
    patches = table.frame["patch_id"].tolist()
    with VerdictLog(log_path(table_path)) as log:
        for number in range(10):
            answers = {"label": 1, "boundary": 1 + number % 3}
            log.add(
                verdict(
                    patches[number], quality=("high", "medium", "low")[number % 3], seconds=4.0, **answers
                )
            )
        for number, quality in enumerate(("high", "medium", "high", "medium")):
            log.add(
                verdict(
                    patches[number],
                    "bea",
                    quality=quality,
                    flag=number == 1,
                    note="see" if number == 1 else "",
                )
            )
        log.add(verdict("of another table"))
        log.add(verdict(patches[12], action="skip"))
    return table_path


def test_the_table_gets_quality_classes_and_can_be_split_by_them(reviewed: Path, tmp_path: Path) -> None:
    out = read_review(reviewed).export(tmp_path / "out" / "reviewed.parquet")
    table = open_patches(out)
    # of two reviewers the worse counts
    assert table.frame["quality"].tolist()[:11] == [
        "high",
        "medium",
        "low",
        "medium",
        *["medium", "low", "high"] * 2,
        "",
    ]
    assert (table.frame["quality_source"] == ["review"] * 10 + [""] * 15).all()
    assert split_patches(table, "quality").counts == {"train": 3, "val": 4, "test": 3, "none": 15}
    assert open_patches(reviewed).frame["quality"].eq("").all()
    assert Path(table.labels["scene"]).exists()


def test_verdicts_are_exported_for_people_and_for_maps(reviewed: Path, tmp_path: Path) -> None:
    review = read_review(reviewed)
    rows = pd.read_csv(review.export(tmp_path / "verdicts.csv"), keep_default_na=False)
    assert len(rows) == 14
    assert rows.loc[0, ["reviewer", "quality", "label", "boundary"]].tolist() == [
        "ana",
        "high",
        "right",
        "right",
    ]
    assert rows["note"].tolist().count("see") == 1
    target = review.export(tmp_path / "verdicts.gpkg")
    patches = gpd.read_file(target, layer="patches")
    assert patches.crs == "EPSG:25830"
    assert patches["verdicts"].tolist()[:5] == [2, 2, 2, 2, 1]
    assert patches["flag"].astype(bool).sum() == 1
    assert len(gpd.read_file(target, layer="verdicts")) == 14
    with pytest.raises(InputError, match=r"extension \.parquet, \.csv, \.gpkg"):
        review.export(tmp_path / "verdicts.xlsx")


def test_agreement_is_measured_on_patches_with_two_reviewers(reviewed: Path) -> None:
    review = read_review(reviewed)
    measured = review.agreement("quality")
    assert measured is not None
    assert (measured.items, measured.percent.value) == (4, 0.5)
    assert review.agreement("label") is None, "bea gave the quality directly"
    document = json.loads(json.dumps(review.to_dict()))
    assert document["reviewed"] == 10
    assert document["reviewers"]["ana"] == {
        "patches": 10, "high": 4, "medium": 3, "low": 3, "flagged": 0, "median_seconds": 4.0,
    }  # fmt: skip


def test_the_commands_export_and_print_agreement(
    reviewed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", "export", str(reviewed), "-o", str(tmp_path / "a.csv"), "-o", str(reviewed)]) == 0
    assert open_patches(reviewed).frame["quality"].ne("").sum() == 10
    assert main(["review", "agreement", str(reviewed)]) == 0
    text = capsys.readouterr().out
    assert "10 of 25 patches reviewed by ana, bea" in text
    assert "quality        4  0.500 (0.000 to 1.000)" in text


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["patches.parquet"], "tesela review serve TABLE"),
        (["sample.gpkg", "--image", "a.tif"], "tesela review serve TABLE"),
        (["patches.parquet", "--export", "a.csv"], "tesela review export TABLE -o FILE"),
        (["patches.parquet", "--agreement"], "tesela review agreement TABLE"),
        (["--rank", "patches.parquet"], "tesela review rank TABLE"),
    ],
)
def test_former_calls_answer_with_one_line_and_the_new_command(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["review", *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert f"is now `{command}`" in shown.err


def test_a_table_without_verdicts_is_refused(table_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["review", "agreement", str(table_path)]) == 1
    assert "there are no verdicts" in capsys.readouterr().err
    assert main(["review", "serve", str(table_path), "--order", "clas"]) == 1
    assert "did you mean 'class'" in capsys.readouterr().err


def test_automatic_quality_is_marked_and_never_replaces_that_of_reviewers(table: PatchTable) -> None:
    with pytest.raises(InputError, match="Rank the table first"):
        automatic_quality(table)
    likelihood = np.arange(25) / 24
    likelihood[24] = np.nan
    ranked = replace(table, frame=table.frame.assign(error_likelihood=likelihood))
    seen = with_quality(ranked, {str(table.frame["patch_id"].iloc[0]): "low"}, source="review")
    made = automatic_quality(seen, shares=(0.5, 0.25, 0.25)).frame
    assert made["quality"].tolist() == ["low", *["high"] * 11, *["medium"] * 6, *["low"] * 6, ""]
    assert made["quality_source"].tolist() == ["review", *[AUTOMATIC] * 23, ""]
    with pytest.raises(InputError, match="three that sum to 1"):
        automatic_quality(ranked, shares=(0.5, 0.6))
