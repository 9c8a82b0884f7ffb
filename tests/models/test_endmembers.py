"""Spectra: angles known by hand, files, and the endmembers of experts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tesela.cli import main
from tesela.core.errors import ExpertError, InputError
from tesela.core.spectra import Spectra, spectral_angles
from tesela.io.spectra import read_spectra, write_spectra
from tesela.models.ensemble import join_experts
from tesela.models.expert import Expert, save_expert
from tesela.models.inference import endmembers_of
from tesela.models.mixing import mixed_endmembers
from tesela.training.unmixing.settings import UnmixingSettings
from tesela.training.unmixing.train import train_unmixing
from unmixing_scene import BANDS, LEGEND, NAMES, STEPS, make_table


def train(**settings: object) -> Expert:
    plan = UnmixingSettings(
        **{"epochs": 1, "batch_size": 256, "context": 0, "accelerator": "cpu", **settings}
    )  # type: ignore[arg-type]
    return train_unmixing(make_table(missing=0.1), plan)


def true_spectra() -> np.ndarray:
    """Of `make_table` with its default seed."""
    return np.random.default_rng(0).normal(0.3, 0.1, (3, STEPS, BANDS))


def test_an_angle_says_nothing_of_brightness_and_leaves_gaps_out() -> None:
    ours = np.array([[[1.0, 1.0, np.nan]]])
    others = np.array([[[5.0, 5.0, 9.0]], [[1.0, 0.0, 1.0]], [[-1.0, -1.0, 0.0]], [[np.nan, np.nan, 1.0]]])
    assert spectral_angles(ours, others)[0, :3] == pytest.approx([0, 45, 180], abs=1e-5)
    assert np.isnan(spectral_angles(ours, others)[0, 3])


def test_spectra_that_hold_all_year_are_compared_with_every_month() -> None:
    ours = Spectra(("a", "b"), (1, 2), ("red", "nir"), np.array([[[1.0, 2], [1, 2]], [[2.0, 1], [2, 1]]]))
    library = Spectra(
        ("soil", "leaf"), (0, 2), ("nir", "red"), np.array([[[1.0, 2], [np.nan, np.nan]], [[4.0, 2], [4, 2]]])
    )
    assert library.like(ours).values[1, 0].tolist() == [2, 4]
    assert [(one.name, one.nearest) for one in ours.nearest(library)] == [("a", "leaf"), ("b", "soil")]
    assert ours.nearest(library)[0].angle_deg == pytest.approx(0, abs=1e-4)
    unlike = Spectra(("a", "b"), (1, 2), ("red", "nir"), np.where([[[True]], [[False]]], ours.values, np.nan))
    assert [one.name for one in unlike.nearest(library)] == ["a"], "of b nothing is known"
    strange = Spectra(("x",), (0,), ("blue",), np.ones((1, 1, 1)))
    with pytest.raises(InputError, match="no band in common"):
        ours.nearest(strange)
    single = Spectra(("x",), (1,), ("red",), np.ones((1, 1, 1)))
    with pytest.raises(InputError, match="an angle needs two"):
        ours.nearest(single)


def test_spectra_are_read_as_they_were_written(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((2, 3, 2)).round(4)
    values[0, 1, 0] = np.nan
    ours = Spectra(("a", "b"), (0, 3, 12), ("red", "nir"), values)
    again = read_spectra(write_spectra(tmp_path / "spectra.csv", ours))
    assert (again.names, again.months, again.bands) == (ours.names, ours.months, ours.bands)
    np.testing.assert_array_equal(again.values, values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,month,value\na,1,2\n", "lacks the columns band"),
        ("class,month,band,value\na,1,red,much\n", "line 2 has month '1' and value 'much'"),
        ("class,month,band,value\na,13,red,1\n", "line 2 has month 13"),
        ("class,month,band,value\na,1,red,nan\n", "a finite number"),
        ("class,month,band,value\n", "holds no spectrum"),
    ],
)
def test_wrong_libraries_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "library.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_spectra(path)


def test_endmembers_of_known_mixtures_are_found_through_gaps() -> None:
    generator = np.random.default_rng(1)
    spectra = generator.normal(size=(3, 4, 2))
    shares = generator.dirichlet([0.5] * 3, 5000)
    values = np.einsum("nc,ctb->ntb", shares, spectra)
    seen = generator.random(values.shape) < 0.7
    endmembers = mixed_endmembers(np.where(seen, values, 99), seen, shares)
    assert np.abs(endmembers - spectra).max() < 0.02


@pytest.mark.parametrize(
    "settings", [{"model": "mlp", "endmember_decoder": True}, {"model": "nnls", "endmember_pixels": 5}]
)
def test_endmembers_come_in_the_unit_of_the_cube(settings: dict[str, object]) -> None:
    endmembers = endmembers_of(train(**settings))
    assert (endmembers.names, endmembers.bands) == (LEGEND.codes, NAMES)
    assert endmembers.months == tuple(range(1, STEPS + 1))
    assert np.abs(endmembers.values - true_spectra()).mean() < 0.03
    angles = spectral_angles(endmembers.values, true_spectra())
    assert (angles.argmin(1) == np.arange(3)).all()


def test_an_ensemble_has_the_mean_of_its_members_endmembers() -> None:
    one, other, plain = train(model="mlp", endmember_decoder=True), train(model="fclsu"), train(model="mlp")
    joined = endmembers_of(join_experts([one, other, plain])).values
    assert np.allclose(joined, (endmembers_of(one).values + endmembers_of(other).values) / 2)
    with pytest.raises(ExpertError, match="has no endmembers: train with endmember_decoder = true"):
        endmembers_of(plain)


def test_the_command_writes_a_table_and_a_picture_and_names_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expert = str(save_expert(tmp_path / "one.safetensors", train(model="fclsu")))
    true = Spectra(("leaves", "fields", "sand"), tuple(range(1, 13)), NAMES, true_spectra())
    library = write_spectra(tmp_path / "library.csv", true)
    words = ["unmix", expert, "--endmembers", str(tmp_path / "e.csv")]
    assert main([*words, "--library", str(library)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines[2:5]] == [["11", "leaves"], ["12", "fields"], ["21", "sand"]]
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert read_spectra(tmp_path / "e.csv").values.shape == (3, STEPS, BANDS)
    assert main([*words, "--library", str(library), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["library"]["21"]["nearest"] == "sand"
    assert main(["unmix", expert]) == 1
    assert "Give a cube and -o FILE to map, or --endmembers FILE" in capsys.readouterr().err
    assert main(["unmix", expert, "cube.zarr", "-o", "a.tif", "--library", "x.csv"]) == 1
    assert "also give --endmembers FILE" in capsys.readouterr().err
