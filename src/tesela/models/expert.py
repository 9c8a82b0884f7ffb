"""The expert: a trained network with all that is needed to apply it, in one file that runs no code."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from tesela.core.errors import ExpertError, TeselaError, join_words
from tesela.core.temporary import temporary_folder
from tesela.models.header import ExpertHeader, Provenance

if TYPE_CHECKING:
    import torch

__all__ = ["Expert", "ExpertHeader", "Provenance", "open_expert", "read_header", "save_expert"]

Shape = tuple[int, ...]

KEY = "tesela"
"""Name of the header among the metadata of the safetensors file."""
DIGESTS = "digests"
"""Digests in the header: of the header with the table of tensors, and of the tensors."""
_AS_TEXT: Mapping[str, Any] = {"sort_keys": True, "allow_nan": False, "ensure_ascii": False}
_AGAIN = "Train or get the expert again."
_LARGEST_WEIGHT = 1e9
"""Also the variances that normalisation layers keep stay far below it."""
_WITH_TREES = frozenset({"class_trees", "fused", "trees", "ensemble"})
"""Models whose thresholds may be infinite."""
_LARGEST_HEADER = 100_000_000  # bytes; the limit that safetensors itself sets


@dataclass(frozen=True)
class Expert:
    """A header and the network that it describes."""

    header: ExpertHeader
    network: torch.nn.Module
    path: str = field(default="", compare=False)
    """File that it was opened from; empty for one made in memory."""

    def scaled(self, images: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale images as in training; see `ExpertHeader.scaled`."""
        return self.header.scaled(images)

    def to_onnx(self, path: str | Path) -> Path:
        """Write the network with its scaling as an ONNX graph; see `tesela.models.onnx_export.export_onnx`."""
        from tesela.models.onnx_export import export_onnx

        return export_onnx(self, path)


def log_frequencies(frequencies: NDArray[np.float64]) -> NDArray[np.float32]:
    """Logarithms; 0 for a class without training pixels, which no adjustment may raise."""
    return np.where(frequencies > 0, np.log(np.maximum(frequencies, 1e-9)), 0).astype(np.float32)


def with_prior(expert: Expert, strength: float) -> Expert:
    """
    The expert with another strength of its logit adjustment by class frequencies.

    Raises
    ------
    ExpertError
        If the expert does not hold the class frequencies of its training.
    """
    import torch

    header = expert.header
    network = copy.deepcopy(expert.network)
    add = getattr(network, "add_to_scores", None)
    if not header.frequencies or add is None:
        raise ExpertError(
            "This expert does not hold the class frequencies of its training, so its prior cannot be changed. Train "
            "it again, or leave out --prior."
        )
    logs = log_frequencies(np.array(header.frequencies))
    add(torch.from_numpy(np.float32(header.prior - strength) * logs))
    return Expert(replace(header, prior=strength), network, expert.path)


def save_expert(path: str | Path, expert: Expert) -> Path:
    """
    Write an expert as one ``.safetensors`` file, whole or not at all; the same content gives the same bytes.

    Raises
    ------
    ExpertError
        If the file cannot be written, or the header holds what JSON cannot.
    """
    from safetensors.torch import save

    target = Path(path)
    if target.suffix != ".safetensors":
        raise ExpertError(f"{target}: the file of an expert must end in .safetensors.")
    try:
        header = json.dumps(expert.header.to_dict(), **_AS_TEXT)
    except (TypeError, ValueError) as error:
        raise ExpertError(f"{target}: the header cannot be written as JSON ({error}).") from None
    state = expert.network.state_dict()
    tensors = {name: state[name].detach().cpu().contiguous() for name in sorted(state)}
    plain = save(tensors, metadata={KEY: header})
    digests = {DIGESTS: [_digest(header, _tensor_table(plain)), _digest(_data(plain))]}
    content = save(tensors, metadata={KEY: json.dumps({**json.loads(header), **digests}, **_AS_TEXT)})
    try:
        with temporary_folder(target) as folder:
            (folder / target.name).write_bytes(content)
            (folder / target.name).replace(target)
    except OSError as error:
        raise ExpertError(f"{target}: cannot be written ({error.strerror or error}).") from error
    return target


def _digest(*parts: str | bytes | memoryview) -> str:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()


def _data(content: bytes) -> memoryview:
    """The tensors of a safetensors file."""
    return memoryview(content)[8 + int.from_bytes(content[:8], "little") :]


def _tensor_table(content: bytes) -> str:
    """Names, types, shapes and places of the tensors of a safetensors file, as text."""
    table = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.dumps({name: item for name, item in table.items() if name != "__metadata__"}, sort_keys=True)


def read_header(path: str | Path, *, whole: bool = False) -> ExpertHeader:
    """
    Read the header of an expert, without loading torch.

    Parameters
    ----------
    whole : bool
        Read the tensors, too, and check that they are those that were written.

    Raises
    ------
    ExpertError
        If the file is missing, truncated, not an expert, of a newer format, or damaged.
    """
    document, _, digest = _read_json(Path(path))
    if whole:
        _check_tensors(Path(path), digest)
    return _parse(Path(path), document)


def open_expert(path: str | Path, *, device: str = "cpu") -> Expert:
    """
    Open an expert, ready to predict; no code in the file is run.

    Parameters
    ----------
    path : str or Path
        The ``.safetensors`` file.
    device : str
        Where torch puts the network.

    Raises
    ------
    ExpertError
        As `read_header`, and if tensors are missing or do not fit the architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    target = Path(path)
    document, shapes, digest = _read_json(target)
    header = _parse(target, document)
    try:
        network = _plan(header) or header.architecture.build()
        _compare(target, {name: tuple(item.shape) for name, item in network.state_dict().items()}, shapes)
        if any(item.is_meta for item in network.state_dict().values()):
            network = header.architecture.build()
        _check_tensors(target, digest)
        tensors = load_file(target)
        _check_numbers(target, tensors, trees=header.architecture.kind in _WITH_TREES)
        network.load_state_dict(tensors)
    except SafetensorError as error:
        raise ExpertError(f"{target}: its tensors cannot be read ({error}). Get the file again.") from None
    except ExpertError as error:
        raise error if str(error).startswith(str(target)) else ExpertError(f"{target}: {error}") from None
    network.eval().requires_grad_(False)
    return Expert(header, network.to(device), str(target))


def _check_numbers(path: Path, tensors: Mapping[str, torch.Tensor], *, trees: bool) -> None:
    """Refuse weights with which every map is of one class."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = (float(item) for item in tensor.float().aminmax())
        if low != low or high != high:
            raise ExpertError(
                f"{path}: {name} holds NaN; the file is damaged. Train or get the expert again."
            )
        if not trees and max(-low, high) > _LARGEST_WEIGHT:
            raise ExpertError(
                f"{path}: {name} holds numbers up to {max(-low, high):g}, which no training gives (at most "
                f"{_LARGEST_WEIGHT:g}). Train or get the expert again."
            )


def _plan(header: ExpertHeader) -> torch.nn.Module | None:
    """The network without memory for its tensors, so that shapes are compared before anything is allocated."""
    import torch

    try:
        with torch.device("meta"):
            return header.architecture.build()
    except ExpertError as error:
        if "meta tensors" in str(error):  # some encoders of smp compute while they are built
            return None
        raise


def _compare(path: Path, planned: Mapping[str, Shape], shapes: Mapping[str, Shape]) -> None:
    missing = [name for name in planned if name not in shapes]
    unexpected = [name for name in shapes if name not in planned]
    if missing or unexpected:
        raise ExpertError(
            f"{path}: does not hold the tensors of its architecture; "
            f"missing: {join_words(missing, most=3) or 'none'}; "
            f"unexpected: {join_words(unexpected, most=3) or 'none'}. Train or get the expert again."
        )
    for name, shape in planned.items():
        if shapes[name] != shape:
            raise ExpertError(
                f"{path}: {name} has shape {shapes[name]}, but its architecture needs {shape}. "
                f"Get the expert again."
            )


def _check_tensors(path: Path, digest: str) -> None:
    """Refuse tensors that are not those that were written; experts of earlier versions hold no digest."""
    if not digest:
        return
    found = xxhash.xxh3_128()
    with path.open("rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while block := file.read(1 << 22):
            found.update(block)
    if found.hexdigest() != digest:
        raise ExpertError(
            f"{path}: its tensors are not those that were written; the file is damaged. {_AGAIN}"
        )


def _read_json(path: Path) -> tuple[dict[str, object], dict[str, Shape], str]:
    """Header of ours, shapes of tensors, and their digest, from the JSON at the start of a safetensors file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= min(_LARGEST_HEADER, size) else b""
    except OSError as error:
        raise ExpertError(f"{path}: cannot be opened ({error.strerror}).") from None
    if text[:1] == b"{" and len(text) < length:
        raise ExpertError(f"{path}: is truncated ({size} bytes, inside its header). Get the file again.")
    try:
        table = json.loads(text)
        ours = dict(table.pop("__metadata__", {}))
        shapes = {str(name): tuple(int(n) for n in item["shape"]) for name, item in table.items()}
        needed = 8 + length + max((int(item["data_offsets"][1]) for item in table.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        raise ExpertError(f"{path}: is not an expert; a file made by tesela train was needed.") from None
    if KEY not in ours:
        raise ExpertError(f"{path}: holds weights but no header; a file made by tesela train was needed.")
    if size < needed:
        raise ExpertError(f"{path}: is truncated ({size} of {needed} bytes). Get the file again.")
    try:
        document = json.loads(ours[KEY])
    except (ValueError, TypeError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ExpertError(f"{path}: its Tesela header is not a JSON table. {_AGAIN}")
    digests = document.pop(DIGESTS, None)
    if digests is None:
        return document, shapes, ""
    try:
        written = json.dumps(document, **_AS_TEXT)
        sound = digests[0] == _digest(written, json.dumps(table, sort_keys=True)) and isinstance(
            digests[1], str
        )
    except (ValueError, TypeError, LookupError):
        sound = False
    if not sound:
        raise ExpertError(
            f"{path}: its header is not the one that was written; the file is damaged. {_AGAIN}"
        )
    return document, shapes, digests[1]


def _parse(path: Path, document: Mapping[str, object]) -> ExpertHeader:
    try:
        return ExpertHeader.from_dict(document)
    except TeselaError as error:
        raise ExpertError(f"{path}: {error}") from None
