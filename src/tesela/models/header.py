"""The header of an expert: all about a trained network but its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import ExpertError, join_words, unknown_name
from tesela.core.legend import Legend
from tesela.core.standardisation import Standardisation
from tesela.core.training_imagery import TrainingImagery
from tesela.models.architecture import Architecture
from tesela.models.segmentation.networks import OTHER_MODELS, SEGMENTATION_NETWORKS
from tesela.models.unmixers import UNMIXERS
from tesela.models.unmixing_header import SeriesScaling, Variance, read_variances

_LARGEST_PATCH_PX = 16_384
"""Windows of this side take gigabytes."""

FORMAT = 1
"""Version of the header; a file of a newer one is refused."""


@dataclass(frozen=True)
class Provenance:
    """Where an expert comes from."""

    seed: int = 0
    date: str = ""
    """Day (UTC, ISO 8601) on which the training started; no time, so resumed runs write equal bytes."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries by name."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of what it was trained on, by name."""


@dataclass(frozen=True)
class ExpertHeader:
    """All about an expert but its weights."""

    architecture: Architecture
    legend: Legend
    """Output channel ``i`` is class ``legend.classes[i]``."""
    bands: tuple[str, ...]
    """Names of the input bands, in order."""
    mean: tuple[float, ...]
    """Mean of each band over the training patches, in the physical quantity of the scene."""
    std: tuple[float, ...]
    """Standard deviation of each band, likewise."""
    patch_size_px: int
    """Side of the patches that it was trained on."""
    pixel_size_m: float
    """Side of a pixel on the ground, in metres; 0 where the scenes were in degrees."""
    task: str = "segmentation"
    series: SeriesScaling | None = None
    """Months, ancillary layers and prior of an expert for unmixing."""
    variance: tuple[Variance, ...] = ()
    """Calibrated variance of the shares, by level of the legend, the coarsest first; empty: not fitted."""
    frequencies: tuple[float, ...] = ()
    """Share of each class among the training pixels; empty in older files."""
    prior: float = 0.0
    """Strength of the logit adjustment that the weights contain: score k is lower by prior x ln(frequency k)."""
    imagery: TrainingImagery | None = None
    """What the bands of the training pixels look like; None in older files."""
    training: Mapping[str, object] = field(default_factory=dict)
    """Settings of the training recipe."""
    scores: Mapping[str, object] = field(default_factory=dict)
    """Scores on the validation patches."""
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ExpertError(f"Expert header: {'; '.join(problems)}.")

    @property
    def standardisation(self) -> Standardisation:
        """Bands, means, standard deviations and dates of the network's input."""
        dates: tuple[int, ...] = getattr(self.architecture, "band_dates", ())
        return Standardisation(self.bands, self.mean, self.std, dates)

    def scaled(self, images: NDArray[np.floating]) -> NDArray[np.float32]:
        """
        Scale images as in training: ``(x - mean) / std``, and 0, the mean, where there is no data.

        Parameters
        ----------
        images : (..., bands, rows, cols) array of float
            Physical quantities in the order of `bands`; NaN is nodata.

        Returns
        -------
        (..., bands, rows, cols) array of float32

        Raises
        ------
        ExpertError
            If the number of bands differs.
        """
        if images.ndim < 3 or images.shape[-3] != len(self.bands):
            raise ExpertError(
                f"Images of shape {images.shape} were given, but the expert needs "
                f"(..., {len(self.bands)} bands, rows, cols): {join_words(self.bands)}."
            )
        return self.standardisation.apply(images)

    def to_dict(self) -> dict[str, object]:
        """Document from which `from_dict` builds the same header."""
        provenance = self.provenance
        return {
            "format": FORMAT,
            "task": self.task,
            "architecture": self.architecture.to_dict(),
            "legend": {"name": self.legend.name, "levels": self.legend.levels, "rows": self.legend.to_rows()},
            "bands": list(self.bands),
            "mean": list(self.mean),
            "std": list(self.std),
            "patch_size_px": self.patch_size_px,
            "pixel_size_m": self.pixel_size_m,
            **({} if self.series is None else {"series": self.series.to_dict()}),
            **({"variance": [[one.own, one.mixed] for one in self.variance]} if self.variance else {}),
            **({"frequencies": list(self.frequencies), "prior": self.prior} if self.frequencies else {}),
            **({} if self.imagery is None else {"imagery": self.imagery.to_dict()}),
            "training": dict(self.training),
            "scores": dict(self.scores),
            "provenance": {
                "seed": provenance.seed,
                "date": provenance.date,
                "versions": dict(provenance.versions),
                "fingerprints": dict(provenance.fingerprints),
            },
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> ExpertHeader:
        """
        Build from `to_dict`'s document.

        Raises
        ------
        ExpertError
            If it is of a newer format, or a field is missing or wrong.
        """
        version = document.get("format")
        if not isinstance(version, int) or version > FORMAT:
            raise ExpertError(
                f"its format is {version}, but this Tesela reads up to {FORMAT}: update Tesela."
            )
        try:
            legend = _table(document["legend"])
            provenance = _table(document["provenance"])
            return cls(
                architecture=read_architecture(document["architecture"]),
                legend=Legend.from_rows(
                    str(legend["name"]), _rows(legend["rows"]), levels=int(str(legend["levels"]))
                ),
                bands=tuple(str(name) for name in _list(document["bands"])),
                mean=tuple(float(str(item)) for item in _list(document["mean"])),
                std=tuple(float(str(item)) for item in _list(document["std"])),
                patch_size_px=int(str(document["patch_size_px"])),
                pixel_size_m=float(str(document["pixel_size_m"])),
                task=str(document["task"]),
                series=SeriesScaling.from_dict(_table(document["series"])) if "series" in document else None,
                variance=read_variances(document.get("variance", document.get("doubt", []))),
                frequencies=tuple(float(str(item)) for item in _list(document.get("frequencies", []))),
                prior=float(str(document.get("prior", 0.0))),
                imagery=TrainingImagery.from_dict(_table(document["imagery"]))
                if "imagery" in document
                else None,
                training=_table(document["training"]),
                scores=_table(document["scores"]),
                provenance=Provenance(
                    seed=int(str(provenance["seed"])),
                    date=str(provenance["date"]),
                    versions=_texts(provenance["versions"]),
                    fingerprints=_texts(provenance["fingerprints"]),
                ),
            )
        except KeyError as error:
            raise ExpertError(f"its header lacks {error}.") from None
        except (ValueError, TypeError) as error:
            raise ExpertError(f"its header is wrong ({error}).") from None


def read_architecture(document: object) -> Architecture:
    """
    Read the architecture of an expert's header.

    Raises
    ------
    ExpertError
        If a field is missing or of the wrong kind, or the family is unknown.
    """
    if not isinstance(document, Mapping):
        raise ExpertError(f"architecture is {document!r}, a table of settings was needed.")
    families: dict[str, type[Architecture]] = {**SEGMENTATION_NETWORKS, **OTHER_MODELS, **UNMIXERS}
    kind = str(document.get("kind"))
    if kind not in families:
        raise ExpertError(unknown_name("architecture", kind, families))
    return families[kind].from_dict(document)


def _problems(header: ExpertHeader) -> Iterator[str]:
    net, count = header.architecture, len(header.bands)
    if not count or not count == len(header.mean) == len(header.std) == net.bands:
        yield (
            f"{count} bands, {len(header.mean)} means, {len(header.std)} standard deviations and "
            f"a network of {net.bands} bands were given, but all four must be equal and 1 or more"
        )
    if net.classes != len(header.legend):
        yield f"the network has {net.classes} classes, legend '{header.legend.address}' {len(header.legend)}"
    if not np.isfinite([*header.mean, *header.std]).all() or min(header.std, default=1) <= 0:
        yield "means and standard deviations must be finite, the latter above 0"
    if not 1 <= header.patch_size_px <= _LARGEST_PATCH_PX or not 0 <= header.pixel_size_m < np.inf:
        yield (
            f"patch size {header.patch_size_px} px and pixel size {header.pixel_size_m} m must be positive, "
            f"the patch up to {_LARGEST_PATCH_PX}"
        )
    if header.variance and (
        len(header.variance) != header.legend.depth or not all(one.is_sound for one in header.variance)
    ):
        yield (
            f"the variance is {header.variance}; "
            f"{header.legend.depth} pairs of finite numbers from 0 on were needed"
        )
    shares = np.array(header.frequencies)
    if shares.size and (shares.size != len(header.legend) or not ((shares >= 0) & (shares <= 1)).all()):
        yield f"frequencies are {list(header.frequencies)}; one from 0 to 1 for each class was needed"
    if not -10 <= header.prior <= 10:
        yield f"prior is {header.prior}; a number from -10 to 10 was needed"
    if header.imagery is not None:
        yield from header.imagery.problems(count)
    if header.series is not None:
        yield from header.series.problems(len(header.legend))


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{str(value)[:60]!r} was given, a table was needed")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{str(value)[:60]!r} was given, a list was needed")
    return value


def _rows(value: object) -> list[dict[str, str]]:
    rows = [_texts(row) for row in _list(value)]
    if not rows:
        raise ValueError("its legend has no classes")
    return rows


def _texts(value: object) -> dict[str, str]:
    return {key: str(item) for key, item in _table(value).items()}
