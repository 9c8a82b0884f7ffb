"""BRITS: the fast network against its equations, its time gaps, its cost and its export."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from tesela.core.errors import ExpertError
from tesela.core.legend import Legend
from tesela.mapping.abundance.engines import OpenVinoRunner
from tesela.models.brits.kernels import advance_cell, decay_hidden
from tesela.models.brits.network import Brits, months_since
from tesela.models.brits.reference import brits_cost, reference_answer
from tesela.models.inference import TorchRunner, unmix
from tesela.models.output import NetworkOutput
from tesela.models.published_checkpoints import open_published_checkpoint
from tesela.models.unmixers import BritsArchitecture
from tesela.training.unmixing.loop import unmixing_loss
from tesela.training.unmixing.settings import UnmixingSettings

PIXELS, STEPS, BANDS, CLASSES, LAYERS = 40, 12, 7, 4, 9
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def series(missing: float, *, layers: int = LAYERS, seed: int = 0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(PIXELS, STEPS, BANDS, generator=generator)
    mask = (torch.rand(PIXELS, STEPS, BANDS, generator=generator) >= missing).float()
    return values * mask, mask, torch.randn(PIXELS, layers, generator=generator)


def loss_of(answer: NetworkOutput, given_series: Tensors, *, published: bool) -> torch.Tensor:
    values, mask, _ = given_series
    targets = torch.softmax(torch.randn(PIXELS, CLASSES, generator=torch.Generator().manual_seed(1)), -1)
    chosen = UnmixingSettings(model="brits", published=published).resolved
    labelled = torch.ones(PIXELS, dtype=torch.bool)
    return unmixing_loss(
        answer, targets, values=values, mask=mask, labelled=labelled, parents=None, settings=chosen
    )


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("layers", [0, LAYERS])
@pytest.mark.parametrize("missing", [0.0, 0.2, 1.0])
def test_answer_loss_and_gradients_are_those_of_the_equations(
    missing: float, layers: int, published: bool
) -> None:
    torch.manual_seed(0)
    network = Brits(BANDS, CLASSES, layers=layers, sigmoid=not published)
    given_series = series(missing, layers=layers)
    results = []
    for answer in (network.answer(*given_series), reference_answer(network, *given_series)):
        loss = loss_of(answer, given_series, published=published)
        gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        results.append((answer, loss, gradients))
    (fast, fast_loss, fast_slopes), (slow, slow_loss, slow_slopes) = results
    assert (fast.shares - slow.shares).abs().max() <= 1e-6
    assert fast.imputed is not None
    assert slow.imputed is not None
    assert (fast.imputed - slow.imputed).abs().max() <= 1e-6
    assert (fast_loss - slow_loss).abs() <= 1e-6 * slow_loss.abs().clamp_min(1)
    for one, other in zip(fast_slopes, slow_slopes, strict=True):
        assert one is not None
        assert other is not None
        assert (one - other).abs().max() <= 1e-6


def test_the_answer_without_gradients_is_the_same() -> None:
    network = Brits(BANDS, CLASSES, layers=LAYERS)
    with_gradients = network(*series(0.3))
    with torch.no_grad():
        assert torch.allclose(network(*series(0.3)), with_gradients, atol=1e-7)


def test_the_slopes_of_the_fused_kernels_are_right() -> None:
    numbers = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    cell = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, c: advance_cell(z.clone(), c), (numbers, cell))
    assert torch.autograd.gradcheck(decay_hidden, (cell, numbers[:, :3].detach().requires_grad_()))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=14))
def test_months_since_count_back_to_the_last_observation_in_both_directions(seen: list[bool]) -> None:
    for order in (seen, seen[::-1]):
        counted = months_since(torch.tensor(order, dtype=torch.float32)[:, None])[:, 0].tolist()
        for step, months in enumerate(counted):
            before = [back for back in range(1, step + 1) if order[step - back]]
            assert months == (before[0] if before else step + 1)


def test_the_published_mistakes_can_be_switched_on() -> None:
    torch.manual_seed(0)
    right = Brits(BANDS, CLASSES, layers=LAYERS)
    answers = {"": right(*series(0.4))}
    for legacy in ("deltas", "order"):
        wrong = Brits(BANDS, CLASSES, layers=LAYERS, legacy=legacy)
        wrong.load_state_dict(right.state_dict())
        answers[legacy] = wrong(*series(0.4))
    assert (answers[""] - answers["deltas"]).abs().max() > 1e-6
    assert (answers["order"] - answers["deltas"]).abs().max() > 1e-4


def test_a_full_series_has_no_wrong_deltas() -> None:
    right = Brits(BANDS, CLASSES, layers=LAYERS)
    wrong = Brits(BANDS, CLASSES, layers=LAYERS, legacy="deltas")
    wrong.load_state_dict(right.state_dict())
    assert torch.equal(right(*series(0.0)), wrong(*series(0.0)))


def test_observed_values_stay_and_gaps_are_filled() -> None:
    given_series = series(0.5)
    answer = Brits(BANDS, CLASSES, layers=LAYERS).answer(*given_series)
    values, mask, _ = given_series
    assert answer.imputed is not None
    assert (answer.imputed - values)[mask > 0].abs().max() <= 1e-6
    assert torch.isfinite(answer.imputed).all()


@pytest.mark.parametrize(
    ("classes", "layers", "published"),
    [
        (4, 0, 2.305504),
        (4, 5, 2.366504),
        (4, 4, 2.366304),
        (4, 9, 2.367304),
        (10, 0, 2.307904),
        (10, 9, 2.369704),
    ],
)
def test_the_cost_is_counted_as_the_paper_counts(classes: int, layers: int, published: float) -> None:
    cost = brits_cost(BritsArchitecture(7, classes, layers))
    assert cost.published_mflop == pytest.approx(published, abs=1e-9)


def test_the_true_cost_is_what_torch_counts_in_the_equations() -> None:
    plan = BritsArchitecture(7, 4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference_answer(plan.build(), *series(0.2, layers=0))  # type: ignore[arg-type]
    assert counter.get_total_flops() / PIXELS / 1e6 == pytest.approx(brits_cost(plan).true_mflop)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="the extra 'fast' is not installed")
@pytest.mark.parametrize("layers", [0, LAYERS])
def test_the_export_gives_the_same_shares(layers: int) -> None:
    network = Brits(BANDS, CLASSES, layers=layers)
    arrays = [item.numpy() for item in series(0.3, layers=layers)]
    exported = OpenVinoRunner(network, batch=32)(*arrays)  # type: ignore[arg-type]
    expected = TorchRunner(network)(*arrays)  # type: ignore[arg-type]
    assert exported.shares.shape == (PIXELS, CLASSES)
    assert np.abs(exported.shares.numpy() - expected.shares.numpy()).max() <= 1e-6
    assert np.abs(exported.heads.numpy() - expected.heads.numpy()).max() <= 1e-6


@pytest.mark.skipif(
    "TESELA_RELEASED" not in os.environ, reason="TESELA_RELEASED names no copy of Workflow_AI"
)
@pytest.mark.parametrize(("level", "classes"), [(1, 4), (2, 10)])
def test_published_checkpoints_repeat_the_published_predictions(level: int, classes: int) -> None:
    folder = Path(os.environ["TESELA_RELEASED"])
    rows = [
        {"value": str(n), "code": str(n), "name": str(n), "color": "#808080"} for n in range(1, classes + 1)
    ]
    expert = open_published_checkpoint(
        folder / f"models/N{level}/model.ckpt", legend=Legend.from_rows("released", rows), legacy="order"
    )
    with (folder / f"outputs/predictions_N{level}.csv").open(encoding="utf-8") as file:
        published = list(csv.reader(file))[1:]
    for number, *shares in published:
        text = (folder / f"data/json_dir/{int(number):07d}.json").read_text(encoding="utf-8")
        document = json.loads(text)
        series = {name: np.array(item, np.float32)[None] for name, item in document["ts_data"].items()}
        layers = np.array([list(document["ancillary_data"].values())], np.float32)
        values = np.where(series["masks"] > 0, series["values"] / np.float32(10_000), np.nan)
        predicted = unmix(expert.header, TorchRunner(expert.network), values, layers).shares[0]  # type: ignore[arg-type]
        assert np.abs(predicted - np.array(shares[:classes], np.float64)).max() <= 1e-6


def test_other_files_are_no_published_checkpoints(tmp_path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    legend = Legend.from_rows("one", [{"value": "1", "code": "1", "name": "One", "color": "#808080"}])
    with pytest.raises(ExpertError, match="is no published checkpoint of BRITS"):
        open_published_checkpoint(tmp_path / "other.ckpt", legend=legend)
