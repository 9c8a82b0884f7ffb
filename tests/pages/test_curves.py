"""Training curves: what a log of Lightning becomes on a page."""

import re
from pathlib import Path

import pytest

from report_page import write_training_log
from tesela.core.errors import InputError
from tesela.pages.curves import Panel, draw_panel, read_curves


def test_a_training_log_becomes_losses_and_scores_averaged_by_epoch(tmp_path: Path) -> None:
    losses, scores = read_curves(write_training_log(tmp_path / "metrics.csv"))
    assert losses.lines == {"training": [(0, 1.5), (1, 0.5)], "validation": [(0, 1.8)]}
    assert scores.lines == {"mIoU": [(0, 0.2), (1, 0.5)]}


def test_a_panel_draws_each_line_between_round_numbers() -> None:
    svg = draw_panel(Panel("Loss by epoch", {"a": [(0, 0.11), (10, 0.93)], "b": [(0, 0.5)]}))
    assert svg.count("<polyline") == 1
    assert svg.count("<circle") == 2
    assert [float(text) for text in re.findall(r'text-anchor="end">([^<]+)<', svg)] == [
        0,
        0.2,
        0.4,
        0.6,
        0.8,
        1,
    ]
    # the first point: 0.11 of a height of 194 above the bottom at 206
    assert 'points="44.0,184.7' in svg


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n"])
def test_a_file_that_is_no_training_log_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="is no log of lightning's CSVLogger"):
        read_curves(path)
