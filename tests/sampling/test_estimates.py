"""Estimates from a sample: published examples to the digit, formulas, brute-force coverage."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from repository import ROOT
from tesela.core.errors import InputError
from tesela.core.legend import LandClass, Legend
from tesela.sampling.error_matrix import Sample
from tesela.sampling.estimates import class_indicators, estimate_accuracy
from tesela.sampling.estimators import (
    bootstrap_f1,
    cell_errors,
    expand,
    f1_scores,
    ratio,
    share,
    share_interval,
)
from tesela.sampling.page import write_sample_page

LEGEND = Legend("two", (LandClass(1, "wood", "Wood", "#107f3c"), LandClass(2, "field", "Field", "#f0e442")))

EXAMPLES = json.loads((ROOT / "benchmarks" / "published_accuracy.json").read_text(encoding="utf-8"))


def olofsson(name: str, *, sizes: str, pixel_ha: float = 1.0) -> Sample:
    item = EXAMPLES[name]
    matrix = item["rows_map_cols_ref"]
    classes = [str(number) for number in range(len(matrix))]
    return Sample.from_matrix(matrix, sizes_px=item[sizes], classes=classes, pixel_area_ha=pixel_ha)


# --- published examples


def test_olofsson_2014_is_reproduced_to_the_digit() -> None:
    item = EXAMPLES["olofsson2014_table8"]
    estimates = estimate_accuracy(
        olofsson("olofsson2014_table8", sizes="mapped_pixels", pixel_ha=0.09), finite=False
    )
    assert estimates.overall.value == pytest.approx(item["OA"], abs=5e-11)
    assert estimates.overall.se == pytest.approx(item["se_OA"], abs=5e-11)
    for name, scores, digits in (("UA", estimates.users, 10), ("PA", estimates.producers, 6)):
        assert [round(e.value, digits) for e in scores] == item[name]
        assert [round(e.se, 6) for e in scores] == item[f"se_{name}"]
    assert [round(e.value, 10) for e in estimates.shares] == item["area_prop"]
    assert [round(e.se, 10) for e in estimates.shares] == item["se_area_prop"]
    assert [round(e.value, 3) for e in estimates.areas_ha] == item["area_ha"]
    assert [round(e.half_width, 3) for e in estimates.areas_ha] == item["ci95_ha"]
    assert [round(e.value / 0.09, 3) for e in estimates.areas_ha] == item["area_pixels"]
    assert [round(e.half_width / 0.09, 2) for e in estimates.areas_ha] == item["ci95_pixels"]
    printed = item["published"]
    assert round(estimates.areas_ha[0].value) == printed["area_deforestation_ha"]
    assert round(estimates.areas_ha[0].half_width) == printed["ci_ha"]


def test_the_producers_accuracy_of_forest_gain_follows_the_formula_and_not_the_print() -> None:
    estimates = estimate_accuracy(olofsson("olofsson2014_table8", sizes="mapped_pixels"), finite=False)
    assert estimates.producers[1].half_width == pytest.approx(0.254, abs=5e-4)


def test_olofsson_2013_is_reproduced_to_the_digit() -> None:
    item = EXAMPLES["olofsson2013_example1"]
    sample = olofsson("olofsson2013_example1", sizes="mapped_area")
    estimates = estimate_accuracy(sample, finite=False)
    assert round(estimates.overall.value, 8) == item["OA"]
    assert round(estimates.overall.half_width, 8) == item["ci_OA"]
    for name, scores in (("UA", estimates.users), ("PA", estimates.producers)):
        assert [round(e.value, 6) for e in scores] == item[name]
        assert [round(e.half_width, 6) for e in scores] == item[f"ci_{name}"]
    assert [round(e.value, 2) for e in estimates.areas_ha] == item["area"]
    assert [round(e.half_width, 3) for e in estimates.areas_ha] == item["ci_area"]


def test_stehman_2014_with_strata_that_are_not_classes_is_reproduced_to_the_digit() -> None:
    item = EXAMPLES["stehman2014"]
    sample = Sample.from_points(
        item["strata"], item["map"], item["ref"], sizes_px=item["N_h"], classes="ABCD"
    )
    assert not sample.strata_are_classes
    estimates = estimate_accuracy(sample)
    ours = {
        "area_A": estimates.shares[0],
        "area_C": estimates.shares[2],
        "OA": estimates.overall,
        "UA_B": estimates.users[1],
        "PA_B": estimates.producers[1],
    }
    for name, estimate in ours.items():
        assert [round(estimate.value, 6), round(estimate.se, 6)] == item[name], name
    assert [round(estimates.cells[1, 2], 6), round(estimates.cells_se[1, 2], 6)] == item["p_map_B_ref_C"]
    # the paper prints 0.114 for this standard error; its own formula gives 0.117
    assert round(estimates.producers[1].se, 3) == 0.117


def test_the_published_table_of_the_benchmark_has_no_difference() -> None:
    import importlib.util

    path = ROOT / "benchmarks" / "published_accuracy.py"
    spec = importlib.util.spec_from_file_location("published_accuracy", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    rows = script.lines(EXAMPLES)
    assert len(rows) > 20
    assert [row.what for row in rows if not row.same and not row.remark] == []
    assert sum(bool(row.remark) for row in rows) == 1


# --- formulas


@st.composite
def error_matrices(draw: st.DrawFn) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    size = draw(st.integers(2, 5))
    cell = st.integers(0, 40)
    matrix = np.array([[draw(cell) for _ in range(size)] for _ in range(size)]) + np.eye(size, dtype=int) * 2
    sizes = np.array([draw(st.integers(1_000, 1_000_000)) for _ in range(size)], np.float64)
    return matrix, sizes


@given(error_matrices())
@settings(max_examples=60, deadline=None)
def test_where_strata_are_classes_stehmans_formulas_are_olofssons(
    case: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    n, sizes = case
    estimates = estimate_accuracy(
        Sample.from_matrix(n, sizes_px=sizes, classes=[str(k) for k in range(len(n))]),
        finite=False,
        bootstrap=2,
    )
    # the formulas of Olofsson et al. (2014) as printed, sum by sum
    rows, weight = n.sum(axis=1), sizes / sizes.sum()
    p = weight[:, None] * n / rows[:, None]
    user, producer = np.diag(p) / p.sum(axis=1), np.diag(p) / p.sum(axis=0)
    v_user = user * (1 - user) / (rows - 1)
    v_overall = (weight**2 * v_user).sum()
    within = n / rows[:, None] * (1 - n / rows[:, None]) / (rows - 1)[:, None]
    v_area = (weight[:, None] ** 2 * within).sum(axis=0)
    v_producer = []
    for j in range(len(n)):
        others = np.arange(len(n)) != j
        estimated = (sizes * n[:, j] / rows).sum()
        spill = (sizes[others] ** 2 * within[others, j]).sum()
        v_producer.append(
            (sizes[j] ** 2 * (1 - producer[j]) ** 2 * v_user[j] + producer[j] ** 2 * spill) / estimated**2
        )
    assert estimates.overall.value == pytest.approx(np.trace(p))
    assert estimates.overall.se == pytest.approx(np.sqrt(v_overall))
    assert [e.value for e in estimates.users] == pytest.approx(user.tolist())
    assert [e.se for e in estimates.users] == pytest.approx(np.sqrt(v_user).tolist(), abs=1e-9)
    assert [e.value for e in estimates.producers] == pytest.approx(producer.tolist())
    assert [e.se for e in estimates.producers] == pytest.approx(np.sqrt(v_producer).tolist(), abs=1e-7)
    assert [e.se for e in estimates.shares] == pytest.approx(np.sqrt(v_area).tolist(), abs=1e-9)


def test_a_census_has_no_error() -> None:
    matrix = np.array([[30, 5], [3, 62]])
    estimates = estimate_accuracy(Sample.from_matrix(matrix, sizes_px=[35, 65], classes=["a", "b"]))
    assert estimates.overall.value == pytest.approx(0.92)
    ratios = [*estimates.users, *estimates.producers, *estimates.f1]
    assert max(
        e.se for e in (estimates.overall, estimates.macro_f1, *ratios, *estimates.shares)
    ) == pytest.approx(0, abs=1e-12)
    assert estimates.shares[0].value * 100 == pytest.approx(33)


def test_the_bootstrap_of_f1_agrees_with_its_linearisation() -> None:
    """F1 is a ratio, 2 TP / (mapped + true): its Taylor error is the second opinion."""
    item = EXAMPLES["stehman2014"]
    sample = Sample.from_points(
        list(item["strata"]) * 4,
        list(item["map"]) * 4,
        list(item["ref"]) * 4,
        sizes_px=item["N_h"],
        classes="ABCD",
    )
    counts, sizes = sample.counts.astype(float), sample.sizes_px
    rows, columns = class_indicators(4)
    value, error = ratio(counts, sizes, over=2 * rows * columns, under=rows + columns)
    draws = bootstrap_f1(counts, sizes, draws=20_000, seed=3)
    assert f1_scores(expand(counts, sizes)) == pytest.approx(value)
    assert draws.std(axis=0) == pytest.approx(error, rel=0.05)


def test_a_class_without_points_in_the_sample_has_no_number() -> None:
    estimates = estimate_accuracy(
        Sample.from_matrix([[9, 1, 0], [2, 8, 0], [1, 1, 0]], sizes_px=[10, 10, 5], classes="abc")
    )
    assert np.isnan(estimates.producers[2].value)
    assert estimates.to_dict()["classes"][2]["producers"]["value"] is None  # type: ignore[index]
    assert estimates.users[2].value == 0
    assert json.loads(json.dumps(estimates.to_dict()))["matrix"]["rows"] == "map"
    assert sum("±" in line for line in estimates.to_lines()) == 4


def test_intervals_stay_within_what_is_possible_and_other_names_are_refused() -> None:
    values, errors = np.array([0.0, 0.001, 0.5, 0.999, 1.0]), np.array([0.0, 0.01, 0.1, 0.01, 0.0])
    for name in ("logit", "wald"):
        low, high = share_interval(values, errors, interval=name)  # type: ignore[arg-type]
        assert (low >= 0).all()
        assert (high <= 1).all()
        assert (low <= values).all()
        assert (values <= high).all()
    with pytest.raises(InputError, match="'logit' or 'wald'"):
        share_interval(values, errors, interval="bayes")  # type: ignore[arg-type]


# --- coverage: 2,000 draws from virtual regions of known truth


def virtual_region(*, strata: int, classes: int, seed: int, own: bool) -> NDArray[np.int64]:
    """Pixels by stratum, map class and true class; `own`: strata are the map's classes."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((strata, classes, classes), np.int64)
    for h in range(strata):
        chance = rng.uniform(0.02, 0.05, (classes, classes)) + np.diag(rng.uniform(0.1, 0.2, classes))
        chance[h % classes, h % classes] += 0.6
        chance[h % classes, (h + 1) % classes] += 0.1
        if own:
            mask = np.zeros((classes, 1))
            mask[h] = 1
            chance *= mask
        pixels[h] = np.floor(chance / chance.sum() * 200_000 * rng.uniform(0.2, 1.0))
    return pixels


def draw_counts(
    region: NDArray[np.int64], points: list[int], *, draws: int, seed: int
) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    cells = [
        rng.multivariate_hypergeometric(part.ravel(), n, size=draws, method="marginals")
        for part, n in zip(region, points, strict=True)
    ]
    return np.stack(cells, axis=1).reshape(draws, *region.shape).astype(np.float64)


DESIGNS = {
    "strata are the map's classes": (
        virtual_region(strata=4, classes=4, seed=1, own=True),
        [500, 500, 500, 500],
    ),
    "strata are not classes": (
        virtual_region(strata=5, classes=4, seed=2, own=False),
        [150, 250, 200, 100, 200],
    ),
    "one stratum: simple random": (virtual_region(strata=1, classes=3, seed=3, own=False), [500]),
    "a third of all pixels": (virtual_region(strata=3, classes=3, seed=4, own=False) // 250, [150, 120, 100]),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_intervals_cover_the_truth_in_93_to_97_of_100_draws(name: str) -> None:
    region, points = DESIGNS[name]
    draws, size = 2000, region.shape[-1]
    sizes = region.sum(axis=(1, 2)).astype(np.float64)
    counts = draw_counts(region, points, draws=draws, seed=11)
    truth = region.sum(axis=0) / region.sum()
    rows, columns = class_indicators(size)
    cells = expand(counts, sizes).reshape(draws, -1)
    present = truth.ravel() > 0
    cases = {
        "overall": (*share(counts, sizes, of=np.eye(size)[np.newaxis]), np.array([np.trace(truth)])),
        "users": (*ratio(counts, sizes, over=rows * columns, under=rows), np.diag(truth) / truth.sum(axis=1)),
        "producers": (
            *ratio(counts, sizes, over=rows * columns, under=columns),
            np.diag(truth) / truth.sum(axis=0),
        ),
        "areas": (*share(counts, sizes, of=columns), truth.sum(axis=0)),
        "cells": (
            cells[:, present],
            cell_errors(counts, sizes).reshape(draws, -1)[:, present],
            truth.ravel()[present],
        ),
    }
    for what, (values, errors, right) in cases.items():
        low, high = share_interval(values, errors)
        covered = ((low <= right) & (right <= high)).mean(axis=0)
        assert covered.min() >= 0.93, (what, covered)
        assert covered.max() <= 0.97, (what, covered)
        # the estimates are unbiased, and the standard errors are those of repeated samples
        assert values.mean(axis=0) == pytest.approx(right, abs=4 * values.std() / np.sqrt(draws) + 2e-3)
        assert np.sqrt((errors**2).mean(axis=0)) == pytest.approx(values.std(axis=0), rel=0.08), what
    macro, each = [], []
    for start in range(0, draws, 250):
        resampled = bootstrap_f1(counts[start : start + 250], sizes, draws=200, seed=start)
        each.append(np.percentile(resampled, [2.5, 97.5], axis=1))
        macro.append(np.percentile(resampled.mean(axis=-1), [2.5, 97.5], axis=1))
    right = f1_scores(truth)
    for what, ends, goal in (("f1", each, right), ("macro f1", macro, right.mean())):
        low, high = np.concatenate(ends, axis=1)
        covered = ((low <= goal) & (goal <= high)).mean(axis=0)
        assert covered.min() >= 0.93, (what, covered)
        assert covered.max() <= 0.97, (what, covered)


def test_the_published_interval_covers_too_where_cells_hold_dozens_of_points() -> None:
    region, points = DESIGNS["strata are the map's classes"]
    sizes = region.sum(axis=(1, 2)).astype(np.float64)
    counts = draw_counts(region, points, draws=2000, seed=12)
    truth = region.sum(axis=0) / region.sum()
    _, columns = class_indicators(4)
    values, errors = share(counts, sizes, of=columns)
    low, high = share_interval(values, errors, interval="wald")
    covered = ((low <= truth.sum(axis=0)) & (truth.sum(axis=0) <= high)).mean(axis=0)
    assert ((covered >= 0.93) & (covered <= 0.97)).all()


def test_mapped_shares_are_those_of_the_strata_and_have_no_error() -> None:
    estimates = estimate_accuracy(
        Sample.from_matrix([[9, 1], [5, 5]], sizes_px=[300, 700], classes="ab"), bootstrap=2
    )
    assert [item.value for item in estimates.mapped_shares] == pytest.approx([0.3, 0.7])
    assert [item.se for item in estimates.mapped_shares] == [0, 0]
    assert [item.value for item in estimates.shares] == pytest.approx([0.62, 0.38])
    assert not estimates.mapped_shares[0].has_interval
    assert estimates.shares[0].has_interval


def test_strata_that_share_a_class_of_the_map_are_not_classes() -> None:
    counts = np.zeros((2, 2, 2), int)
    counts[:, 0] = [[5, 1], [2, 4]]
    sample = Sample(("a", "b"), ("north", "south"), np.array([100.0, 200.0]), counts)
    assert not sample.strata_are_classes


def test_a_stratum_of_one_point_has_no_variance_and_is_refused() -> None:
    with pytest.raises(InputError, match=r"Stratum b \(1 of 50 px\) has too few points"):
        Sample.from_matrix([[9, 1], [0, 1]], sizes_px=[50, 50], classes="ab")
    assert Sample.from_matrix([[9, 1], [0, 1]], sizes_px=[50, 1], classes="ab").points == 11


def test_ends_of_intervals_by_hand() -> None:
    values, errors = np.array([0.2, 0.02]), np.array([0.05, 0.02])
    low, high = share_interval(values, errors, interval="wald")
    assert (low.tolist(), high.tolist()) == (pytest.approx([0.102, 0]), pytest.approx([0.298, 0.0592]))
    low, high = share_interval(values[:1], errors[:1])
    step = 1.96 * 0.05 / 0.16
    ends = [1 / (1 + 4 * np.exp(step)), 1 / (1 + 4 * np.exp(-step))]
    assert [low[0], high[0]] == pytest.approx(ends)


def test_the_page_shows_the_figures_of_the_json(tmp_path: Path) -> None:
    sample = Sample.from_matrix([[9, 1], [5, 5]], sizes_px=[300, 700], classes=LEGEND.codes)
    page = write_sample_page(tmp_path, estimate_accuracy(sample), legend=LEGEND).read_text(encoding="utf-8")
    document = json.loads((tmp_path / "accuracy.json").read_text(encoding="utf-8"))
    first = document["classes"][0]
    rows = [row for row in page.split("<tr>") if "Wood" in row]
    assert ["<td>300.0</td>" in row for row in rows].count(True) == 1, "mapped area"
    assert ["<td>620.0</td>" in row for row in rows].count(True) == 1, "estimated area"
    for name in ("users", "producers", "f1"):
        low, high = (100 * first[name][end] for end in ("low", "high"))
        bar = f"left:{low:.1f}%;width:{high - low:.1f}%"
        assert f"{100 * first[name]['value']:.1f} %<small>{low:.1f} to {high:.1f}" in page
        assert bar in page
