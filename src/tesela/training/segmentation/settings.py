"""The settings of the segmentation recipe, with the reason for each default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from tesela.core.errors import TeselaError, unknown_name
from tesela.core.units import parse_duration_s
from tesela.models.segmentation.class_trees import MOST_TREES
from tesela.models.segmentation.feature_spec import MOST_SIDE_PX
from tesela.models.segmentation.networks import SEGMENTATION_NETWORKS, TREE_FORMS
from tesela.training.settings import SettingsError, out_of_range

PUBLISHED_ENCODERS = ("resnet50", "resnet101")
PUBLISHED_EPOCHS = 100

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin")
"""Endings by which `weights` is a local file, not a name."""

PRETRAINING_SETTINGS = (
    *("model", "encoder", "decoder", "weights", "batch_size", "learning_rate", "weight_decay", "clip"),
    *("brightness", "contrast", "precision", "accelerator", "threads", "seed"),
)
"""Settings on which the pretraining of the encoder depends, see `tesela.training.segmentation.pretraining`."""


@dataclass(frozen=True)
class SegmentationSettings:
    """
    How a segmentation network is trained.

    The defaults are ours. `published` is the recipe of Demir and Musaoglu [DemirMusaoglu2023]_ as they state it: a
    U-Net with a ResNet50 or ResNet101 encoder from ImageNet, Adam, 100 epochs. What they do not report is left plain:
    cross-entropy without weights of classes, a constant learning rate, no augmentation, no averaged weights, no early
    stopping, no adjustment by class frequencies. With `weights = "random"` it starts from scratch, offline.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {
        "extra": "forbid"
    }  # an unknown key of a recipe is a mistake

    model: str = "auto"
    """A network ("unet", "unet_dates", see `tesela.models.segmentation.networks`), trees ("boosting", "forest"), or
    "auto": trees and a network are trained, joined and compared on the validation patches, as the budget allows."""
    objective: Literal["accuracy", "macro_f1", "both"] = "both"
    """Score on the validation patches by which the strength of `prior` and the models of "auto" are chosen."""
    prior: float | Literal["auto"] = "auto"
    """Strength of the logit adjustment by class frequencies [Menon2021]_: 0 for none, 1 to weight all classes equally;
    auto: chosen on the validation patches."""
    budget: str = ""
    """Processor time of the whole training, such as "10 min"; the epochs are fitted to it. Empty: `epochs` counts."""
    pixels: int = 60_000
    """Training pixels of trees, drawn with the same chance each."""
    trees: int | Literal["auto"] = "auto"
    """Number of trees; auto: 300 boosted ones, 100 of a forest."""
    refit: bool = True
    """Grow trees again on the patches of training and validation, after the latter have chosen; with "auto" and a
    budget that allows it, train the network again, too."""
    window_sides_px: tuple[int, ...] = (3, 7, 15, 31)
    """Odd sides of the windows over which trees see means, deviations and extremes; none: the pixel alone."""
    encoder: str = "auto"
    """Encoder of segmentation_models_pytorch or timm; auto: by the number of labelled pixels, see
    `tesela.training.segmentation.sizing`."""
    weights: str | None = None
    """Pretrained weights of the encoder: a name such as "imagenet", or a local file; None or "random": none."""
    decoder: Literal["auto", "full", "small"] = "auto"
    """Decoder channels: 256 to 16, as smp has them, or about half of them; auto: small if `encoder` is "auto" and the
    data are small, else full."""
    members: int = 1
    """Networks of an ensemble in one expert, each from its own random start; they share `budget`."""
    epochs: int = 60
    """Passes over the training patches."""
    batch_size: int = 16
    """Patches per step, on each device."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 1e-3
    """Highest learning rate: about 1e-3 for random weights, 3e-4 for pretrained ones."""
    weight_decay: float = 0.01
    """Pull of AdamW to zero, or of Adam as an L2 term."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: a half cosine down to zero at the last step, or constant."""
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises linearly."""
    loss: Literal["ce_dice", "ce", "dice"] = "ce_dice"
    """Cross-entropy scores each pixel, Dice the area of each class; their sum improves accuracy and mIoU."""
    label_smoothing: float = 0.0
    """Probability taken from the label's class and spread over all, in the cross-entropy."""
    imbalance_strategy: Literal["none", "loss", "sampling"] = "loss"
    """Rare classes weigh more: in the loss by 1 / sqrt(frequency), or because their patches are drawn more often."""
    quality_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    """How often patches of high, medium and low quality are drawn, relative to each other; others count as high."""
    border_weight: float = 1.0
    """Weight in the loss of pixels that touch another class."""
    border_relaxation: bool = False
    """Let such pixels be of any class that they touch [Zhu2019]_."""
    shift: float = 0.0
    """Largest shift of a training patch, as a share of its side; labels come from the training patches around it."""
    flips_and_rotations: bool = True
    """Rotate and flip patches into the eight positions of a square: imagery from above has no up."""
    brightness: float = 0.1
    """Largest shift of a patch, in standard deviations of its band."""
    contrast: float = 0.1
    """Largest relative stretch of a patch around the mean."""
    ema: float = 0.999
    """Decay per step of the averaged weights, which are validated and saved; 0 for no averaging."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 turns clipping off."""
    monitor: Literal["macro_f1", "miou"] = "macro_f1"
    """Score on the validation patches that chooses the weights to save."""
    patience: int = 15
    """Epochs without a better score after which the training ends; 0 for never."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic; auto: bf16 where processor and network compute faster in it, else fp16 on a GPU, fp32 on a CPU."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = "auto"
    """Number of devices; auto: all GPUs, or the CPU."""
    cache: Literal["auto", "always", "never"] = "auto"
    """Keep the patches in memory; auto: when they take at most a third of it."""
    num_workers: int = 0
    """Processes that read patches ahead, if they are not kept in memory."""
    threads: int = 0
    """Threads of a network's training on the CPU; 0: one per core. Equal bytes need equal numbers."""
    seed: int = 0
    published: bool = False
    """Follow the published settings, see above."""

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise SettingsError(f"Training settings: {'; '.join(problems)}.")

    @property
    def resolved(self) -> SegmentationSettings:
        """The settings with those that `published` implies."""
        weights = None if self.weights == "random" else self.weights
        if not self.published:
            return replace(self, weights=weights)
        return replace(
            self,
            model="unet",
            encoder=PUBLISHED_ENCODERS[0] if self.encoder == "auto" else self.encoder,
            decoder="full",
            members=1,
            weights=weights if self.weights else "imagenet",
            epochs=PUBLISHED_EPOCHS,
            optimizer="adam",
            weight_decay=0.0,
            schedule="constant",
            warmup=0.0,
            loss="ce",
            label_smoothing=0.0,
            imbalance_strategy="none",
            quality_weights=(1.0, 1.0, 1.0),
            border_weight=1.0,
            border_relaxation=False,
            shift=0.0,
            flips_and_rotations=False,
            brightness=0.0,
            contrast=0.0,
            ema=0.0,
            clip=0.0,
            patience=0,
            prior=0.0,
        )


_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "pixels": (100, 100_000_000),
    "batch_size": (1, 65_536),
    "learning_rate": (1e-9, 10),
    "weight_decay": (0, 10),
    "warmup": (0, 0.9),
    "label_smoothing": (0, 0.9),
    "members": (1, 8),
    "border_weight": (0, 1),
    "shift": (0, 0.5),
    "brightness": (0, 5),
    "contrast": (0, 0.9),
    "ema": (0, 0.999999),
    "clip": (0, 1e6),
    "patience": (0, 100_000),
    "num_workers": (0, 1024),
    "threads": (0, 1024),
    "seed": (0, 2**31),
}


def _problems(settings: SegmentationSettings) -> Iterator[str]:
    yield from out_of_range(settings, _RANGES)
    models = (*SEGMENTATION_NETWORKS, *TREE_FORMS, "auto")
    if settings.model not in models:
        yield unknown_name("model", settings.model, models).rstrip(".")
    if settings.prior != "auto" and not -1 <= settings.prior <= 2:
        yield f"prior is {settings.prior:g}, but must be from -1 to 2, or 'auto'"
    if settings.trees != "auto" and not 1 <= settings.trees <= MOST_TREES:
        yield f"trees is {settings.trees}, but must be from 1 to {MOST_TREES:,}, or 'auto'"
    if any(side < 3 or side % 2 == 0 or side > MOST_SIDE_PX for side in settings.window_sides_px):
        yield f"window_sides_px is {list(settings.window_sides_px)}, but all must be odd, from 3 to {MOST_SIDE_PX}"
    if settings.budget:
        try:
            parse_duration_s(settings.budget)
        except TeselaError as error:
            yield f"budget: {error}".rstrip(".")
    if settings.devices != "auto" and settings.devices < 1:
        yield f"devices is {settings.devices}, but must be 1 or more, or 'auto'"
    weights = settings.quality_weights
    if len(weights) != 3 or min(weights) < 0 or max(weights) <= 0:
        yield f"quality_weights is {list(weights)}, but must be three numbers of 0 or more, one above 0"
    if settings.published and settings.encoder not in ("auto", *PUBLISHED_ENCODERS):
        encoders = " and ".join(PUBLISHED_ENCODERS)
        yield f"published is true, but encoder is '{settings.encoder}': the paper used {encoders}"
