"""The choice between unmixing models: what is tried, what is joined, what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tesela.core.legend import Legend
from tesela.models.expert import Expert, open_expert
from tesela.models.tried import SHARE_COLUMNS, tried_columns, tried_rows, tried_text
from tesela.training.settings import SettingsError
from tesela.training.unmixing.auto import (
    Candidate,
    all_levels,
    budgeted,
    choose_candidate,
    fit_block_weights,
)
from tesela.training.unmixing.calibration import unmix_pixels
from tesela.training.unmixing.settings import AUTO_MEMBERS, UnmixingSettings
from tesela.training.unmixing.train import train_unmixing
from unmixing_scene import LEGEND, make_table


@pytest.mark.slow
def test_auto_writes_one_expert_with_the_table_of_what_it_tried(tmp_path: Path) -> None:
    table, file = make_table(), tmp_path / "auto.safetensors"
    settings = UnmixingSettings(model="auto", epochs=3, batch_size=128, trees=5, windows=(3, 5))
    train_unmixing(table, settings, out=file, quiet=True)
    expert = open_expert(file)
    rows = tried_rows(expert.header.scores)
    assert [row[0] for row in rows][:3] == list(AUTO_MEMBERS)
    assert sum(row[-1] == "chosen" for row in rows) == 1
    assert tried_columns(expert.header.scores) == SHARE_COLUMNS
    assert "chosen" in tried_text(expert.header.scores)
    assert expert.header.training["model"] == "auto"
    shares = unmix_pixels(expert, table).shares
    assert np.nanmax(np.abs(shares.sum(1) - 1)) < 1e-5
    assert not (tmp_path / ".training").exists()


def test_a_budget_leaves_out_networks_that_it_cannot_train() -> None:
    def named(budget: str) -> dict[str, str]:
        return {plan.model: plan.budget for plan in budgeted(UnmixingSettings(model="auto", budget=budget))}

    assert named("5 min") == {"boosting": "60 s", "mlp": "48 s", "tempcnn": "192 s"}
    assert named("30 s") == {"boosting": "6 s", "tempcnn": "24 s"}
    assert named("5 s") == {"boosting": "1 s"}
    plans = budgeted(UnmixingSettings(model="auto"))
    assert [(plan.model, plan.context, plan.budget) for plan in plans] == [
        ("boosting", 1, ""),
        ("mlp", 2, ""),
        ("tempcnn", 2, ""),
    ]


def candidates() -> tuple[list[Candidate], np.ndarray, np.ndarray, Legend]:  # type: ignore[type-arg]
    """Two models whose errors are independent, and their mean."""
    rng = np.random.default_rng(0)
    truth = rng.dirichlet([0.5] * 3, 3000)
    blocks = np.arange(3000) // 100
    one, other = (truth + rng.normal(0, size, truth.shape) for size in (0.1, 0.2))
    expert = train_unmixing(make_table(), UnmixingSettings(model="fclsu"), quiet=True)
    members = [
        Candidate(name, Expert(expert.header, expert.network), all_levels(item, LEGEND))
        for name, item in (("one", one), ("other", other), ("joined", 0.8 * one + 0.2 * other))
    ]
    return members, all_levels(truth, LEGEND), blocks, LEGEND


def test_weights_go_by_the_variance_of_the_errors_and_the_joined_model_is_kept() -> None:
    members, truth, blocks, legend = candidates()
    weights = fit_block_weights(np.stack([item.shares for item in members[:2]]), truth, blocks)
    assert weights[0] == pytest.approx(0.8, abs=0.03)  # 1 / 0.01 to 1 / 0.04
    winner, tried = choose_candidate(members, truth, blocks, legend)
    assert winner.name == "joined"
    assert tried[0]["lead_over_chosen"][1] < 0  # type: ignore[index]
    # a last candidate that is measurably worse is not kept
    winner, _ = choose_candidate(members[:2], truth, blocks, legend)
    assert winner.name == "one"


def test_a_model_that_only_adds_errors_has_no_weight() -> None:
    members, truth, blocks, _ = candidates()
    bad = 1 - truth
    weights = fit_block_weights(np.stack([members[0].shares, bad]), truth, blocks)
    assert weights == (1.0, 0.0)


def test_windows_have_odd_sides() -> None:
    with pytest.raises(SettingsError, match="odd sides from 3 to 65 px"):
        UnmixingSettings(windows=(4,))
