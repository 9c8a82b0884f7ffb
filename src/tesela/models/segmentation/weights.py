"""Pretrained encoder weights, by name or from a local file."""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from tesela.core.errors import ExpertError, join_words

_LOG = logging.getLogger(__name__)

NESTED = ("state_dict", "model_state_dict", "model", "network", "teacher", "student")
"""Keys under which training scripts commonly put the weights inside a ``.pth`` file."""


@dataclass(frozen=True)
class WeightsReport:
    """Which tensors of a file of weights were used."""

    loaded: int
    """Number of tensors copied into the encoder."""
    unexpected: tuple[str, ...]
    """Names in the file that the encoder does not have: a classifier's head, for example."""
    adapted: tuple[str, ...]
    """First convolutions that were spread over another number of bands."""


def load_encoder_weights(
    encoder: nn.Module, source_weights: Path | Mapping[str, torch.Tensor], *, source: str
) -> WeightsReport:
    """
    Copy weights into an encoder, whatever prefix their names carry.

    Prefixes such as ``module.`` or ``encoder.`` are stripped: of all prefixes in the file, the one under
    which most names fit is taken. Where the first convolution has ``k`` channels in the file and ``n`` in the
    encoder, band ``i`` gets channel ``i mod k`` times ``k / n``, and their sum where ``n`` is 1, as smp does.

    Parameters
    ----------
    encoder : torch.nn.Module
        Changed in place.
    source_weights : Path or mapping of str to tensor
        A ``.safetensors`` or ``.pth`` file (which is read without running code), or the tensors themselves.
    source : str
        Name for messages.

    Raises
    ------
    ExpertError
        If the file cannot be read, lacks a tensor of the encoder, or has one of another shape.
    """
    tensors = read_weights(source_weights) if isinstance(source_weights, Path) else dict(source_weights)
    own = encoder.state_dict()
    matched, unexpected = _match(own, tensors)
    missing = [name for name in own if name not in matched and not name.endswith("num_batches_tracked")]
    if missing:
        raise ExpertError(
            f"{source}: {len(missing)} of the {len(own)} tensors of the encoder are missing "
            f"({join_words(missing, most=3)}), and {len(unexpected)} in it do not belong to it "
            f"({join_words(unexpected, most=3) or 'none'}). "
            f"Name the encoder these weights were trained with."
        )
    adapted: list[str] = []
    for name, tensor in matched.items():
        want = own[name].shape
        if tensor.shape == want:
            continue
        if tensor.ndim == 4 and tensor.shape[0] == want[0] and tensor.shape[2:] == want[2:] and not adapted:
            matched[name] = spread_bands(tensor, bands=want[1])
            adapted.append(name)
        else:
            raise ExpertError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, but the encoder needs {tuple(want)}. "
                f"Name the encoder these weights were trained with."
            )
    encoder.load_state_dict(matched, strict=False)
    report = WeightsReport(len(matched), tuple(unexpected), tuple(adapted))
    _LOG.info(
        "%s: %d tensors loaded; not used: %s",
        source,
        report.loaded,
        join_words(unexpected, most=6) or "none",
    )
    return report


def spread_bands(weight: torch.Tensor, *, bands: int) -> torch.Tensor:
    """Spread a convolution's (out, k, rows, cols) weight over other bands, keeping its total response."""
    k = weight.shape[1]
    if bands == 1:
        return weight.sum(1, keepdim=True)
    return weight[:, torch.arange(bands) % k] * (k / bands)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """
    Read tensors from a ``.safetensors`` or ``.pth`` file without running any code it may hold.

    Raises
    ------
    ExpertError
        If the file is missing, truncated, or holds anything but tensors.
    """
    if not path.is_file():
        raise ExpertError(f"{path}: no such file of weights.")
    document: object
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            document = load_file(path)
        except SafetensorError as error:
            raise ExpertError(f"{path}: not a whole .safetensors file ({error}). Get it again.") from None
    else:
        try:
            with warnings.catch_warnings():
                # an old pickle: it is either read or refused below, which is all a user can act on
                warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
                document = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
            reason = (str(error).splitlines() or ["empty"])[0]
            raise ExpertError(
                f"{path}: cannot be read as plain tensors ({reason[:120]}). Tesela runs no code from files: "
                f"save the state_dict alone, or convert it to .safetensors."
            ) from None
    for key in NESTED:
        if isinstance(document, Mapping) and isinstance(document.get(key), Mapping):
            document = document[key]
    tensors = document.items() if isinstance(document, Mapping) else ()
    named = {str(name): tensor for name, tensor in tensors if isinstance(tensor, torch.Tensor)}
    if not named:
        raise ExpertError(f"{path}: holds no named tensors; a state_dict was needed.")
    return named


def pretrained_weights(encoder: str, name: str) -> dict[str, torch.Tensor]:
    """
    Weights that smp or timm publish for an encoder, from the local cache or downloaded.

    Raises
    ------
    ExpertError
        If there are none of this name, or they cannot be downloaded: the message explains how to use a file.
    """
    import segmentation_models_pytorch as smp

    if encoder.startswith("tu-"):
        if name != "imagenet":
            raise ExpertError(
                f"Weights '{name}': encoders of timm have 'imagenet'; write another tag into the encoder's "
                f'name ("{encoder.removeprefix("tu-")}.TAG"), or give a local .safetensors or .pth file.'
            )
        options: bool | str = True
    else:
        names = sorted(smp.encoders.encoders[encoder]["pretrained_settings"])
        if name not in names:
            raise ExpertError(
                f"Weights '{name}': encoder '{encoder}' has {join_words(names) or 'none'} by name. "
                f"Give one of these or a local .safetensors or .pth file."
            )
        options = name
    try:
        with _quiet_hub():
            donor = smp.encoders.get_encoder(encoder, in_channels=3, weights=options)
    except (OSError, RuntimeError, ValueError) as error:
        plain = encoder.removeprefix("tu-")
        raise ExpertError(
            f"The '{name}' weights of encoder '{plain}' are not on this machine and cannot be downloaded "
            f"({type(error).__name__}). Fetch them on a connected machine and point weights to the file: "
            f'weights = "{plain}.safetensors" (or .pth); or leave weights out.'
        ) from error
    tensors: dict[str, torch.Tensor] = donor.state_dict()
    return tensors


@contextlib.contextmanager
def _quiet_hub() -> Iterator[None]:
    """Ask the hub once whether it is there, where every file would retry for half a minute; keep it quiet."""
    from huggingface_hub import constants

    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "timm", "httpx")]
    levels = [logger.level for logger in loggers]
    with contextlib.ExitStack() as stack:
        if not constants.HF_HUB_OFFLINE and not _answers(constants.ENDPOINT):
            stack.enter_context(mock.patch.object(constants, "HF_HUB_OFFLINE", True))
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=".*symlinks.*", category=UserWarning)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _match(
    own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Pair names under the best prefixes; timm writes ``layers_0`` where others write ``layers.0``."""
    prefixes = {""}
    for name in given:
        parts = name.split(".")
        prefixes.update(".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), 4)))
    best: dict[str, str] = {}
    for ours in ("", "model."):
        targets = {_plain(name.removeprefix(ours)): name for name in own if name.startswith(ours)}
        for prefix in sorted(prefixes, key=len):
            pairs = {
                targets[_plain(name.removeprefix(prefix))]: name
                for name in given
                if name.startswith(prefix) and _plain(name.removeprefix(prefix)) in targets
            }
            if len(pairs) > len(best):
                best = pairs
    used = set(best.values())
    unused = [name for name in given if name not in used]
    return {ours: given[theirs] for ours, theirs in best.items()}, unused


def _plain(name: str) -> str:
    return name.replace(".", "_")
