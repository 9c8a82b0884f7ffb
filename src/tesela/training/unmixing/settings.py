"""The settings of the unmixing recipe, with the reason for each default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Literal

from tesela.core.errors import RecipeError
from tesela.core.units import parse_duration_s
from tesela.training.settings import SettingsError, out_of_range

PUBLISHED_EPOCHS = 200
PUBLISHED_BATCH = 2048

MOST_WINDOW = 65
"""Largest side of a window, in pixels."""

AUTO_MEMBERS = ("boosting", "mlp", "tempcnn")
"""Models that "auto" tries: boosted trees of 3 x 3 series, a network of single pixels, and one with neighbours."""

ENCODERS = ("tempcnn", "ltae", "mlp")
"""Pixel encoders, which `context` gives neighbours."""

CLASSIC = ("forest", "boosting", "fclsu", "nnls")
"""Models that are fitted, not trained by gradients."""


@dataclass(frozen=True)
class UnmixingSettings:
    """
    How an unmixing model is trained.

    The defaults are ours. `published` trains BRITS as Rodriguez-Ortega et al. [RodriguezOrtega2024]_, also where their
    code differs from their text: the error of imputation is summed over steps and estimates, and the weights of the two
    estimates pass no sigmoid.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: Literal["auto", "tempcnn", "ltae", "mlp", "brits", "forest", "boosting", "fclsu", "nnls"] = (
        "tempcnn"
    )
    """Pixel encoder, BRITS, a baseline, or "auto": those of `AUTO_MEMBERS` that the budget allows, compared on
    validation blocks and joined where that is better."""
    members: tuple[
        Literal["tempcnn", "ltae", "mlp", "brits", "forest", "boosting", "fclsu", "nnls"], ...
    ] = ()
    """Models to train and join into one expert in place of `model`, with weights fitted on the validation pixels. A
    network and trees err in different places, so their mean is better than each. A name may come twice."""
    context: int = 2
    """Convolutions of 3 x 3 over neighbours, for encoders; for trees, pixels on each side. 0: none."""
    windows: tuple[int, ...] = ()
    """Odd sides of windows, in pixels, whose means and deviations of series and layers trees read, too. None by
    default: boosted trees of 3 x 3 series are better without, randomised trees slightly better with (5, 9, 17)."""
    ensemble_size: int = 1
    """Networks of an ensemble, each from its own random start."""
    head: Literal["softmax", "dirichlet", "sparsemax", "hurdle"] = "softmax"
    """How encoders make shares. "softmax" has the smallest errors; "dirichlet" predicts a distribution, whose width is
    an uncertainty; "sparsemax" and "hurdle" give many classes exactly 0."""
    endmember_decoder: bool = False
    """Let encoders reconstruct the series from monthly endmember spectra, which can be read from the expert."""
    thinning: float = 1.0
    """Share of the pixels of train and val to use, or above 1 the number of training pixels; drawn evenly over classes
    and area, as whole blocks for networks with neighbours. Of millions of pixels many are alike."""
    epochs: int = 60
    """Passes over the training pixels."""
    budget: str = ""
    """Processor time of the training, such as "10 min": sets the epochs, with the schedule fitted to them, and is
    shared evenly by the networks of an ensemble and by members. Trees are grown as many as fit, 10 at least; linear
    models take what they take."""
    batch_size: int = 512
    """Pixels per step; networks with context take them in tiles of 16 x 16."""
    learning_rate: float = 2e-3
    body_rate: float = 0.3
    """Learning rate of pretrained weights, relative to that of the new head: at the full rate the first steps, which
    follow a random head, undo part of what they learned."""
    weight_decay: float = 0.01
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises; a half cosine down to zero follows."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 turns clipping off."""
    kl: float = 1.0
    """Weight of the cross-entropy of shares, which allows exact zeros."""
    mse: float = 4.0
    """Weight of the squared error, the measure by which maps are assessed."""
    parent_weight: float = 0.5
    """Weight of the same losses one level up, if the legend has one."""
    imputation: float = 0.25
    """Weight of BRITS's mean error of observed values."""
    consistency: float = 0.1
    """Weight of the disagreement of BRITS's directions."""
    month_mask: float = 0.1
    """Mean share of months hidden from a training pixel, to train for gaps."""
    mixup: float = 0.0
    """Share of training pixels mixed with another: under linear mixing, their shares mix exactly."""
    ema: float = 0.99
    """Decay per step of the averaged weights, which are validated and saved; 0 for no averaging."""
    validate_every: int = 3
    """Epochs between two validations."""
    patience: int = 0
    """Validations without a better RMSE after which the training ends; 0 for never. The best weights are saved."""
    trees: int = 200
    """Trees of a forest; most rounds of boosting."""
    endmember_pixels: int = 50
    """Purest pixels of a class whose median is its endmember."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    threads: int = 0
    """Threads of a network's training on the CPU; 0: one per core. Equal bytes need equal numbers."""
    seed: int = 0
    published: bool = False
    """Train BRITS as published, see above."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise SettingsError(f"Unmixing settings: {'; '.join(problems)}.")

    def to_dict(self) -> dict[str, object]:
        """All settings as plain values, for headers and checkpoints."""
        return {**asdict(self), "members": list(self.members), "windows": list(self.windows)}

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are trained."""
        return self.members or (AUTO_MEMBERS if self.model == "auto" else (self.model,))

    @property
    def is_joined(self) -> bool:
        """Whether several models are trained and joined."""
        return bool(self.members) or self.model == "auto"

    @property
    def resolved(self) -> UnmixingSettings:
        """The settings with those that `published` implies; the number of epochs stays as it is set."""
        if not self.published:
            return self
        return replace(
            self,
            model="brits",
            context=0,
            ensemble_size=1,
            head="softmax",
            endmember_decoder=False,
            batch_size=PUBLISHED_BATCH,
            learning_rate=3e-3,
            weight_decay=0.0,
            warmup=0.0,
            clip=0.95,
            kl=0.0,
            mse=0.75,
            parent_weight=0.0,
            month_mask=0.0,
            mixup=0.0,
            ema=0.0,
            patience=0,
        )


_RANGES: dict[str, tuple[float, float]] = {
    "context": (0, 8),
    "ensemble_size": (1, 64),
    "thinning": (1e-6, 1e9),
    "epochs": (1, 100_000),
    "batch_size": (1, 1 << 20),
    "learning_rate": (1e-9, 10),
    "body_rate": (1e-6, 1),
    "weight_decay": (0, 10),
    "warmup": (0, 0.9),
    "clip": (0, 1e6),
    "kl": (0, 1e3),
    "mse": (0, 1e3),
    "parent_weight": (0, 1e3),
    "imputation": (0, 1e3),
    "consistency": (0, 1e3),
    "month_mask": (0, 0.5),
    "mixup": (0, 1),
    "ema": (0, 0.999999),
    "validate_every": (1, 100_000),
    "patience": (0, 100_000),
    "trees": (1, 100_000),
    "endmember_pixels": (1, 1_000_000),
    "threads": (0, 1024),
    "seed": (0, 2**31),
}


def _problems(settings: UnmixingSettings) -> Iterator[str]:
    yield from out_of_range(settings, _RANGES)
    if settings.budget:
        try:
            parse_duration_s(settings.budget)
        except RecipeError as error:
            yield f"budget: {str(error).rstrip('.')}"
        if settings.published:
            yield "published is true, but a budget is given: the paper trains 200 epochs"
    if any(side % 2 == 0 or not 3 <= side <= MOST_WINDOW for side in settings.windows):
        yield f"windows is {list(settings.windows)}; odd sides from 3 to {MOST_WINDOW} px were needed"
    if settings.kl + settings.mse == 0:
        yield "kl and mse are both 0, so the training would have no aim"
    if len(settings.members) == 1:
        yield f"members is '{settings.members[0]}' alone; name two models or more, or set model"
    if settings.published and settings.members:
        yield "published is true, but members are given: the paper trained one BRITS"
    if settings.published and settings.model not in ("brits", "tempcnn"):
        yield f"published is true, but model is '{settings.model}': the paper trained BRITS"
