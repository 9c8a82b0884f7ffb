"""The U-Net of several dates: its header, and what a missing date does to its scores."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from pointwise import LEGEND
from tesela.core.errors import ExpertError, InputError
from tesela.mapping.engines import make_engine
from tesela.models.expert import Expert, ExpertHeader, open_expert, save_expert
from tesela.models.header import read_architecture
from tesela.models.segmentation.networks import plan_network
from tesela.models.segmentation.unet_dates import UnetDatesArchitecture

ENCODER = "tu-mobilenetv3_small_050"
BANDS = tuple(f"{band}_{date}" for date in ("april", "july", "september") for band in ("red", "nir"))


def plan(bands: tuple[str, ...] = (*BANDS, "slope")) -> UnetDatesArchitecture:
    made = plan_network("unet_dates", band_names=bands, classes=3, encoder=ENCODER, decoder="small")
    assert isinstance(made, UnetDatesArchitecture)
    return made


def build(architecture: UnetDatesArchitecture) -> torch.nn.Module:
    torch.manual_seed(0)
    return architecture.build().eval().requires_grad_(False)


def test_the_header_holds_the_dates_and_a_wrong_one_is_refused() -> None:
    made = plan()
    assert made.band_dates == (0, 0, 1, 1, 2, 2, -1)
    assert made.days == (105, 196, 258)
    assert made.summary == f"U-Net with attention over 3 dates, encoder {ENCODER}"
    document = made.to_dict()
    assert read_architecture(document) == made
    for wrong in (
        {"band_dates": [0, 0, 1, 1, 2, 3, -1]},
        {"band_dates": [0, 0, 1, 1, 1, 2, -1]},
        {"band_dates": [0, 1, 2]},
        {"days": []},
        {"days": [1, 2, 900]},
    ):
        with pytest.raises(ExpertError, match=r"architecture: "):
            read_architecture(document | wrong)


def test_dates_with_other_bands_are_refused_in_one_line() -> None:
    with pytest.raises(InputError, match="Date 'july' has no band nir"):
        plan(("red_april", "nir_april", "red_july"))
    with pytest.raises(InputError, match=r"date 'july' stand in another order .* \(red, nir\)"):
        plan(("red_april", "nir_april", "nir_july", "red_july"))


def test_a_date_without_data_is_as_if_it_were_not_there() -> None:
    bands = (*BANDS, "slope")
    kept = [place for place, band in enumerate(bands) if not band.endswith("july")]
    whole, part = build(plan()), build(plan(tuple(bands[place] for place in kept)))
    part.load_state_dict(whole.state_dict())  # no tensor depends on the dates
    images = torch.randn(2, 7, 64, 64)
    images[:, 2:4] = 0
    scores = whole(images)
    torch.testing.assert_close(part(images[:, kept]), scores, rtol=1e-4, atol=1e-4)
    images[:, 2:4] = torch.randn(2, 2, 64, 64)
    assert (whole(images) - scores).abs().max() > 1e-3


def test_a_gap_hides_what_other_dates_show_at_no_pixel() -> None:
    network = build(plan())
    encoder = network.encoder
    images = torch.randn(1, 7, 64, 64)
    images[:, :2, :32] = 0  # no april in the upper half
    seen = {}
    handle = encoder.encoder.register_forward_hook(lambda _, __, levels: seen.update(levels=levels))
    joined = encoder(images)
    handle.remove()
    levels = seen["levels"]
    # with a second date hidden in the same half, the third alone is left there: the mean is its feature
    images[:, 2:4, :32] = 0
    joined = encoder(images)
    handle = encoder.encoder.register_forward_hook(lambda _, __, levels: seen.update(levels=levels))
    encoder(images)
    handle.remove()
    levels = seen["levels"]
    for level, mean in zip(levels[1:], joined[1:], strict=True):
        half = level.shape[-2] // 2
        torch.testing.assert_close(mean[0, :, :half], level[2, :, :half], rtol=1e-4, atol=1e-5)


def test_training_hides_dates_but_never_all_of_a_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    from tesela.models.segmentation import dates_encoder

    monkeypatch.setattr(dates_encoder, "HIDDEN_DATES", 1.0)
    series = torch.ones(20, 3, 2, 4, 4)
    series[:, 0] = 0  # the first date is a gap already
    shown = dates_encoder._shown(series)
    assert (shown[:, 1:].sum(1) == 1).all()
    network = build(plan())
    scores = network(torch.ones(1, 7, 64, 64))
    assert torch.equal(scores, network(torch.ones(1, 7, 64, 64)))  # nothing is hidden in mapping


def test_an_expert_is_saved_and_opened(tmp_path: Path) -> None:
    made = plan()
    header = ExpertHeader(
        made, LEGEND, (*BANDS, "slope"), (0.0,) * 7, (1.0,) * 7, patch_size_px=64, pixel_size_m=10.0
    )
    network = build(made)
    opened = open_expert(save_expert(tmp_path / "a.safetensors", Expert(header, network)))
    assert opened.header.standardisation.dates == made.band_dates
    images = torch.randn(1, 7, 64, 64)
    assert torch.equal(opened.network(images), network(images))


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="extra 'fast'")
@pytest.mark.slow
def test_openvino_gives_the_scores_of_torch() -> None:
    network = build(plan())
    images = np.random.default_rng(0).normal(size=(1, 64, 96, 7)).astype(np.float32)
    images[:, :20, :30, 2:4] = 0
    plain, fast = (make_engine(network, name).scores(images) for name in ("torch-fp32", "openvino-fp32"))
    np.testing.assert_allclose(fast, plain, atol=2e-3)
