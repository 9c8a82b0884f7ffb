"""Experts that read the probabilities of the first expert of their cascade."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pointwise import Pointwise, make_expert, read_map, write_scene
from tesela.core.context_bands import context_bands
from tesela.core.errors import RecipeError
from tesela.core.legend import LandClass, Legend
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import Cascade, Gate, Member
from tesela.mapping.cascade_map import predict_cascade
from tesela.mapping.cascade_runner import CascadeRules
from tesela.mapping.context_shares import with_context
from tesela.mapping.predict import predict_map
from tesela.models.expert import Expert
from tesela.models.segmentation.unet import UnetArchitecture


def legend_of(name: str, *codes: str) -> Legend:
    classes = [LandClass(value, code, code, f"#0000{value:02x}") for value, code in enumerate(codes, start=1)]
    return Legend(name, tuple(classes))


CONTEXT, CANOPY = legend_of("context", "water", "forest", "crops"), legend_of("canopy", "tree", "open")
NAMES = context_bands(CONTEXT.codes)


class Around(torch.nn.Module):
    """A 3 x 3 convolution of sides that are multiples of 32: its scores depend on the neighbours, too."""

    stride = 32
    margin_px = 1

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(bands, 2, 3, padding=1)
        generator = torch.Generator().manual_seed(5)
        self.layer.weight.data = torch.randn(self.layer.weight.shape, generator=generator)
        self.layer.bias.data.zero_()
        self.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(images)
        return scores


def reader_of(bands: tuple[str, ...]) -> Expert:
    plan = UnetArchitecture(bands=len(bands), classes=2, encoder="resnet18")
    expert = make_expert(legend=CANOPY)
    count = len(bands) - 2
    header = replace(
        expert.header,
        architecture=plan,
        bands=bands,
        mean=(100.0, 50.0, *[0.3] * count),
        std=(30.0, 20.0, *[0.2] * count),
    )
    return Expert(header, Around(len(bands)))


def cascade_of(bands: tuple[str, ...]) -> Cascade:
    first = Pointwise(2, 3)
    first.stride = 32  # type: ignore[assignment]
    members = (
        Member("context", make_expert(first, legend=CONTEXT)),
        Member("canopy", reader_of(bands), Gate("context", ("forest", "crops"))),
    )
    return Cascade("two", members)


@pytest.mark.parametrize("names", [NAMES, NAMES[1:2]])
def test_the_bands_are_those_of_a_raster_of_the_first_expert(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Windows of several sizes, strips and panels give what one pass over written probabilities gives."""
    image = write_scene(tmp_path / "scene.tif", (700, 500), nodata_cols=5)
    scene, cascade = open_scene(tmp_path / "scene.tif"), cascade_of(("red", "nir", *names))
    plain = {"engine": "torch", "precision": "fp32"}
    first, second = (member.expert for member in cascade.members)
    predict_map(first, scene, tmp_path / "first.tif", probabilities=tmp_path / "shares.tif", **plain)  # type: ignore[arg-type]
    wide = with_context(scene, tmp_path / "shares.tif")
    predict_map(second, wide, tmp_path / "second.tif", window_px=1088, **plain)  # type: ignore[arg-type]
    predict_cascade(
        cascade,
        scene,
        tmp_path / "map.tif",
        window_px=320,
        memory=1_500_000,
        rules=CascadeRules(isolated_px=0),
        **plain,  # type: ignore[arg-type]
    )
    above, below = read_map(tmp_path / "first.tif"), read_map(tmp_path / "second.tif")
    expected = np.where(above == 1, 1, np.where(above == 2, np.array([0, 4, 5])[below], 0))
    expected = np.where(above == 3, np.array([0, 6, 7])[below], expected)
    made = read_map(tmp_path / "map.tif")
    assert (made[(image == 0).any(axis=0)] == 0).all()
    assert (made == expected).all()
    assert cascade.bands == ("red", "nir")


def test_bands_of_another_first_expert_are_refused() -> None:
    with pytest.raises(
        RecipeError, match="reads context:snow, probabilities of a first expert with these classes"
    ):
        cascade_of(("red", "nir", "context:snow"))
    with pytest.raises(RecipeError, match="has bands of the scene after those of the first expert"):
        cascade_of(("red", "context:water", "nir"))
