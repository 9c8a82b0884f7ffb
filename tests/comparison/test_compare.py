"""Comparisons: the grid, the shared stages, the best setting, and the significance of differences."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesela.assessment.confusion import Confusion
from tesela.assessment.scores import score
from tesela.chains.metrics import Blocks, Metric, mean_iou
from tesela.cli import main
from tesela.comparison.compare import compare_recipe
from tesela.comparison.parameter_grid import Choice, combine, parse_axis
from tesela.comparison.significance import compare_blocks, score_interval
from tesela.core.errors import RecipeError
from tesela.core.legend import LandClass, Legend
from tesela.io.manifest import Manifest
from tesela.recipes.chain_registry import CHAINS, ChainParts
from tesela.recipes.schema import Recipe
from tesela.recipes.sections import Section
from tesela.recipes.stages import Stage

# --- the grid


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("patches.size_px=64,128", [("64", 64), ("128", 128)]),
        ("training.encoder=resnet18,resnet34", [("resnet18", "resnet18"), ("resnet34", "resnet34")]),
        ("bands=RGB:B04+B03,N:B08+B04", [("RGB", ["B04", "B03"]), ("N", ["B08", "B04"])]),
        ('bands=["B04","B03"],["B08"]', [("B04+B03", ["B04", "B03"]), ("B08", ["B08"])]),
        ("training.flips_and_rotations=true,false", [("true", True), ("false", False)]),
        ("training.learning_rate=slow:1e-4,fast:1e-3", [("slow", 1e-4), ("fast", 1e-3)]),
    ],
)
def test_values_are_read_as_toml_or_as_bare_words(text: str, choices: list[tuple[str, object]]) -> None:
    assert parse_axis(text).choices == tuple(Choice(*choice) for choice in choices)


def test_pretraining_is_varied_by_its_kind_under_the_names_of_the_paper() -> None:
    axis = parse_axis("pretraining=none,classes")
    assert [choice.label for choice in axis.choices] == ["from scratch", "fine-tuned"]
    document = {"pretraining": {"series": "TimeSpec4LULC", "epochs": 7}}
    scratch, tuned = combine(document, (axis,))
    assert scratch.document["pretraining"] == {"series": "TimeSpec4LULC", "epochs": 7, "kind": "none"}
    assert tuned.document["pretraining"]["kind"] == "classes"
    assert combine({}, (axis,))[0].document["pretraining"] == {"kind": "none"}


@pytest.mark.parametrize("text", ["training.encoder", "=a,b", "size_px="])
def test_an_axis_without_key_or_values_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="names no key or no values"):
        parse_axis(text)


def test_the_grid_sets_dotted_keys_and_selects_entries_by_their_names() -> None:
    document = {"scenes": [{"name": "april", "paths": ["a"]}, {"name": "july", "paths": ["b"]}], "seed": 3}
    axes = (parse_axis("scenes=april,all:july+april"), parse_axis("training.encoder=x,y"))
    grid = combine(document, axes)
    assert [item.labels for item in grid] == [("april", "x"), ("april", "y"), ("all", "x"), ("all", "y")]
    assert [scene["name"] for scene in grid[2].document["scenes"]] == ["july", "april"]
    assert grid[1].document["training"] == {"encoder": "y"}
    assert "training" not in document, "the recipe itself stays as it was"
    assert len({item.name for item in grid}) == 4
    nested = {"training": {"epochs": 1}}
    epochs = [
        item.document["training"]["epochs"] for item in combine(nested, [parse_axis("training.epochs=2,3")])
    ]
    assert (epochs, nested["training"]["epochs"]) == ([2, 3], 1), "sections are not shared"
    with pytest.raises(RecipeError, match=re.escape("Unknown entry of scenes 'jule': did you mean 'july'?")):
        combine(document, [parse_axis("scenes=jule,april")])
    with pytest.raises(RecipeError, match="give the number of seeds"):
        combine(document, [parse_axis("seed=1,2")])
    with pytest.raises(RecipeError, match="varied twice"):
        combine(document, [parse_axis("a.b=1,2"), parse_axis("a.b=3,4")])
    with pytest.raises(RecipeError, match="names a value twice"):
        parse_axis("a=1,1")


# --- significance


def total(counts: np.ndarray) -> np.ndarray:
    return counts[..., 0] / counts[..., 1]


def shares(right: Sequence[float], *, names: Sequence[str] | None = None) -> Blocks:
    """Blocks of 100 pixels with so many right."""
    counts = np.array([[value, 100.0] for value in right])
    return Blocks(tuple(names or (f"b{number}" for number in range(len(right)))), counts, total)


def test_a_difference_on_every_block_is_significant_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(40, 90, 30)
    better = compare_blocks([shares(base + 2)], [shares(base)])
    assert better is not None
    assert better.value == pytest.approx(0.02)
    assert (better.low, better.high) == (pytest.approx(0.02), pytest.approx(0.02)), "pairs cancel the area"
    assert better.p == pytest.approx(2 / 2001), "no draw has the other sign"
    noise = compare_blocks([shares(base + rng.choice([-3, 3], 30))], [shares(base)])
    assert noise is not None
    assert noise.p > 0.05
    assert noise.low < 0 < noise.high


def test_a_difference_that_cancels_has_no_significance() -> None:
    # two blocks, one better by as much as the other is worse: half of the draws have no difference, a quarter each sign
    chance = compare_blocks([shares([60, 40])], [shares([50, 50])])
    assert chance is not None
    assert (chance.value, chance.p) == (0, 1)
    # three blocks, of which only two differ: a draw without them, (1/3)^3, is the only one that is not above 0
    likely = compare_blocks([shares([60, 60, 50])], [shares([50, 50, 50])], draws=20_000)
    assert likely is not None
    assert likely.p == pytest.approx(2 / 27, abs=0.006)


@pytest.mark.parametrize(
    ("differences", "tail"),
    [
        ([2, 2, -1], 7 / 27),  # two or three of the three draws are the worse block: (3 * 2 + 1) / 27
        ([5, -1], 1 / 4),  # both draws are the worse block
        ([-5, 1], 1 / 4),
        ([1, -1], 3 / 4),  # a sum of zero counts on both sides
        ([9, 9, 9, -4], 13 / 256),  # three or four of four draws: (4 * 3 + 1) / 256
    ],
)
def test_p_is_twice_the_tail_of_all_draws_of_blocks(differences: list[float], tail: float) -> None:
    base = np.full(len(differences), 50.0)
    difference = compare_blocks([shares(base + differences)], [shares(base)], draws=20_000)
    assert difference is not None
    assert difference.value == pytest.approx(np.mean(differences) / 100)
    assert difference.p == pytest.approx(min(1, 2 * tail), abs=0.015)
    reverse = compare_blocks([shares(base)], [shares(base + differences)], draws=20_000)
    assert reverse is not None
    assert reverse.p == difference.p, "two-sided"
    assert (reverse.low, reverse.high) == pytest.approx((-difference.high, -difference.low))


def test_the_interval_holds_the_middle_95_per_cent_of_the_draws() -> None:
    right = np.arange(101.0)  # means of 101 draws: normal, about 50 with 29.2 / sqrt(101)
    low, high = score_interval([shares(right)], draws=20_000)
    spread = right.std() / np.sqrt(len(right)) / 100
    assert (low, high) == pytest.approx((0.5 - 1.96 * spread, 0.5 + 1.96 * spread), abs=0.002)


def test_seeds_are_averaged_and_paired_block_by_block() -> None:
    high, low = [shares([60, 70]), shares([80, 90])], [shares([50, 60]), shares([50, 60])]
    difference = compare_blocks(high, low)
    assert difference is not None
    assert difference.value == pytest.approx((0.1 + 0.3) / 2)
    assert score_interval(high)[0] >= 0.7, "the least mean of both seeds: both draws are the first block"
    assert score_interval(high)[1] <= 0.8


def test_only_blocks_of_both_are_compared() -> None:
    one = shares([50, 60, 70], names=["a", "b", "c"])
    other = shares([10, 50, 60], names=["z", "a", "b"])
    difference = compare_blocks([one], [other])
    assert difference is not None
    assert (difference.blocks, difference.value) == (2, 0)
    assert compare_blocks([one], [shares([5], names=["z"])]) is None
    assert compare_blocks([one], [shares([5, 6], names=["a", "z"])]) is None, "one block has no spread"
    assert np.isnan(score_interval([shares([50])])).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=12), st.integers(0, 3))
def test_a_setting_does_not_differ_from_itself(right: list[float], seed: int) -> None:
    own = compare_blocks([shares(right)], [shares(right)], draws=50, seed=seed)
    assert own is not None
    assert (own.value, own.low, own.high, own.p) == (0, 0, 0, 1)


def test_intervals_of_a_score_cover_the_truth_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for draw in range(200):
        low, high = score_interval([shares(rng.normal(60, 12, 40))], draws=300, seed=draw)
        covered += low <= 0.60 <= high
    assert 0.90 <= covered / 200 <= 0.98


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=9, max_size=9), min_size=1, max_size=4))
def test_many_confusions_score_as_each_alone(cells: list[list[int]]) -> None:
    counts = np.array(cells).reshape(-1, 3, 3)
    legend = Legend("t", tuple(LandClass(k, str(k), f"c{k}", "#000000") for k in (1, 2, 3)))
    none = np.zeros(3, np.int64)
    alone = [score(Confusion(legend, item, none, none)).mean_iou for item in counts]
    assert mean_iou(counts.astype(np.float64)) == pytest.approx(np.nan_to_num(alone))


# --- runs, on a chain of two small stages


class FakeSection(Section):
    bonus: int = 0


class FakeRecipe(Recipe):
    chain: Literal["fake"]
    name: str = "fake"
    out: str = "out"
    source: str = "a"
    model: FakeSection = FakeSection()


LOG: list[str] = []


class FakeChain:
    """Stage `make` depends on `source`, stage `score` on `model.bonus` and the seed too."""

    def __init__(self, recipe: FakeRecipe, folder: Path, *, quiet: bool) -> None:
        self.recipe, self.out = recipe, folder / recipe.out

    @property
    def stages(self) -> tuple[Stage, ...]:
        made, scored = self.out / "make" / "made.txt", self.out / "score" / "score.txt"
        recipe = self.recipe

        def make() -> list[Path]:
            LOG.append(f"make {recipe.source}")
            made.write_text(recipe.source)
            return [made]

        def rate() -> list[Path]:
            LOG.append(f"score {recipe.source} {recipe.model.bonus} {recipe.seed}")
            if recipe.model.bonus == 13:
                raise RecipeError("the power went")
            scored.write_text(str(50 + 10 * len(made.read_text()) + recipe.model.bonus + recipe.seed))
            return [scored]

        return (
            Stage("make", made.parent, {"source": recipe.source}, lambda: [], make),
            Stage("score", scored.parent, recipe.model.model_dump(), lambda: [made], rate, seed=recipe.seed),
        )

    def products(self) -> dict[str, str]:
        return {}

    def summary(self) -> dict[str, object]:
        return {}

    def lines(self) -> tuple[str, ...]:
        return ()

    @property
    def _points(self) -> float:
        return float((self.out / "score" / "score.txt").read_text())

    def metrics(self) -> tuple[Metric, ...]:
        value = self._points / 100
        classes = {"Water": value, "Land <b>": value / 2, "Ice": float("nan")}
        tiles = {"1.1": Metric("IoU", value, classes)}
        return (
            Metric("IoU", value, classes, tiles=tiles),
            Metric("MAE", 1 - value, {}, better="lower"),
        )

    def blocks(self) -> Blocks:
        return shares(self._points + np.arange(-5, 6))

    def mflops_per_px(self) -> float:
        return 1.25


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    module = ModuleType("tesela.chains.fake")
    module.__dict__.update(FakeRecipe=FakeRecipe, FakeChain=FakeChain)
    monkeypatch.setitem(sys.modules, "tesela.chains.fake", module)
    monkeypatch.setitem(CHAINS, "fake", ChainParts("fake:FakeRecipe", "fake:FakeChain", "fake:None"))
    path = tmp_path / "r.toml"
    path.write_text('chain = "fake"\n')
    LOG.clear()
    yield path
    LOG.clear()


def test_a_grid_is_run_with_shared_stages_and_written_as_tables_and_a_page(recipe: Path) -> None:
    made = compare_recipe(recipe, vary=["source=a,bbb", "model.bonus=0,5"], seeds=2)
    assert [line for line in LOG if line.startswith("make")] == ["make a", "make bbb"]
    assert len([line for line in LOG if line.startswith("score")]) == 8
    best = made.comparison.best
    assert best.labels == ("bbb", "5")
    assert best.mean("IoU") == pytest.approx((0.85 + 0.86) / 2)
    assert best.spread("IoU") == pytest.approx(np.std([0.85, 0.86], ddof=1))
    assert best.difference is None
    other = made.comparison.entries[0]
    assert other.difference is not None
    assert other.difference.value == pytest.approx(-0.25)
    assert other.difference.p < 0.01
    with made.files["csv"].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["source"] for row in rows] == ["a", "a", "bbb", "bbb"]
    assert float(rows[3]["IoU"]) == pytest.approx(0.855)
    assert float(rows[3]["IoU: Land <b>"]) == pytest.approx(0.4275)
    assert rows[3]["IoU: Ice"] == ""
    document = json.loads(made.files["json"].read_text(encoding="utf-8"))
    assert document["best"] == {"source": "bbb", "model.bonus": "5"}
    assert document["better"] == {"IoU": "higher", "MAE": "lower"}
    assert document["settings"][0]["tiles"]["1.1"]["classes"]["Ice"] is None
    page = made.files["html"].read_text(encoding="utf-8")
    assert "Best IoU: bbb · 5 with 0.8550" in page
    assert "Land &lt;b&gt;" in page
    assert "<b>" not in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page), "nothing comes from outside"
    assert made.files["png"].read_bytes().startswith(b"\x89PNG")


def test_a_comparison_that_stopped_goes_on_and_a_larger_one_keeps_what_is_there(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"Run 2/2 13, seed \d+: .*the power went"):
        compare_recipe(recipe, vary=["model.bonus=0,13"])
    compare_recipe(recipe, vary=["model.bonus=0,5"])
    assert LOG == ["make a", "score a 0 0", "score a 13 0", "score a 5 0"]
    compare_recipe(recipe, vary=["model.bonus=5,0,7"], seeds=2)
    assert LOG[4:] == ["score a 5 1", "score a 0 1", "score a 7 0", "score a 7 1"]
    compare_recipe(recipe, vary=["model.bonus=5,0,7"], seeds=2)
    assert len(LOG) == 8


def test_lower_is_better_where_the_headline_says_so(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = FakeChain.metrics
    monkeypatch.setattr(FakeChain, "metrics", lambda self: both(self)[::-1])
    made = compare_recipe(recipe, vary=["model.bonus=0,5"])
    assert made.comparison.best.labels == ("5",)
    assert made.comparison.headline.name == "MAE"


def test_minutes_are_those_of_all_stages_in_their_manifests(recipe: Path) -> None:
    compare_recipe(recipe, vary=["model.bonus=0,5"])
    for file in recipe.parent.rglob("compare/shared/*/manifest.json"):
        seconds = 60.0 if file.parent.name.startswith("make") else 30.0
        manifest = Manifest.read(file.parent)
        assert manifest is not None
        replace(manifest, seconds=seconds).write(file.parent)
    again = compare_recipe(recipe, vary=["model.bonus=0,5"]).comparison
    assert [entry.minutes for entry in again.entries] == [1.5, 1.5], "a shared stage counts in each run"


def test_the_page_lists_settings_without_a_significant_difference(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = {0: [40.0, 60, 50, 45, 55], 5: [60.0, 40, 50, 55, 45], 9: [10.0, 10, 9, 8, 7]}
    monkeypatch.setattr(FakeChain, "blocks", lambda self: shares(noise[self.recipe.model.bonus]))
    page = compare_recipe(recipe, vary=["model.bonus=0,5,9"]).files["html"].read_text(encoding="utf-8")
    assert "Best IoU: 9 " in page
    assert "no significant difference" not in page, "both others differ on each block"
    page = compare_recipe(recipe, vary=["model.bonus=0,5"]).files["html"].read_text(encoding="utf-8")
    assert "no significant difference from it (p &gt; 0.05): 0." in page


def test_wrong_keys_and_values_are_reported_before_anything_runs(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"unknown key model\.bonsu \(did you mean bonus\?\)"):
        compare_recipe(recipe, vary=["model.bonsu=1,2"])
    with pytest.raises(RecipeError, match=r"r\.toml with x has 1 mistake: model\.bonus = 'x'"):
        compare_recipe(recipe, vary=["model.bonus=1:1,x"])
    with pytest.raises(RecipeError, match="needs at least one run"):
        compare_recipe(recipe, vary=["model.bonus=1,2"], seeds=0)
    with pytest.raises(RecipeError, match="out does not change a result"):
        compare_recipe(recipe, vary=["out=a,b"])
    assert LOG == []


def test_a_chain_without_metrics_cannot_be_compared(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FakeChain, "metrics")
    with pytest.raises(RecipeError, match="chain 'fake' cannot be compared"):
        compare_recipe(recipe, vary=["model.bonus=1,2"])


def test_the_command_prints_the_table_and_the_files(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", str(recipe), "--vary", "model.bonus=0,5", "-o", str(tmp_path / "c")]
    assert main([*arguments, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["bonus", "IoU", "MAE", "minutes", "MFLOPs/px", "to", "the", "best", "p"]
    assert lines[2].split()[:2] == ["0", "0.6000"]
    assert lines[3].split()[:3] == ["5", "0.6500", "*"]
    assert lines[4].startswith("* best IoU; p by ")
    assert [line.split()[0] for line in lines[5:]] == ["csv", "json", "png", "html"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == {"model.bonus": "5"}


def test_each_level_of_a_legend_has_its_table(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = FakeChain.metrics

    def both(self: FakeChain) -> tuple[Metric, ...]:
        fine = [replace(metric, level=2) for metric in one(self)]
        coarse = [
            replace(metric, level=1, overall=metric.overall / 2, tiles={}, digits=2) for metric in one(self)
        ]
        return (*fine, *coarse)

    monkeypatch.setattr(FakeChain, "metrics", both)
    arguments = ["compare", str(recipe), "--vary", "model.bonus=0,5", "-o", str(tmp_path / "c")]
    assert main([*arguments, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "level 2"
    assert lines[6] == "level 1"
    assert lines[7].split() == ["bonus", "IoU", "MAE"]
    document = json.loads((tmp_path / "c" / "compare.json").read_text(encoding="utf-8"))
    assert document["headline"] == "IoU, level 2"
    setting = document["settings"][0]["metrics"]
    assert setting["IoU, level 1"]["mean"] == pytest.approx(setting["IoU, level 2"]["mean"] / 2)
    assert lines[9].split()[1] == f"{setting['IoU, level 1']['mean']:.2f}"
    page = (tmp_path / "c" / "compare.html").read_text(encoding="utf-8")
    assert "Scores, level 1" in page
    assert "MAE, level 1" not in page, "a metric without classes has no table by class"
    assert "IoU, level 1 by class" in page
