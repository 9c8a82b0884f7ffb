"""Files of arrays: safetensors written row by row, and mapped instead of loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tesela.core.errors import InputError

Arrays = Mapping[str, NDArray[Any]]

_NAMES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
"""Number formats by their names in safetensors."""

_BYTES_AT_ONCE = 16 << 20


def write_arrays(path: str | Path, arrays: Arrays, *, metadata: Mapping[str, str]) -> None:
    """
    Write arrays as one safetensors file, some megabytes at a time: they may be larger than the memory.

    Parameters
    ----------
    arrays : mapping of str to array
        Of float64, float32, int64, int32 or uint8.
    """
    table: dict[str, object] = {"__metadata__": dict(metadata)}
    order = sorted(
        arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)
    )  # each starts at its own size
    end = 0
    for name in order:
        array = arrays[name]
        start, end = end, end + array.nbytes
        kind = next(code for code, text in _NAMES.items() if np.dtype(text) == array.dtype)
        table[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    with Path(path).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for name in order:
            append_rows(file, arrays[name])


def append_rows(file: IO[bytes], array: NDArray[Any]) -> None:
    """Write the numbers of an array at the end of a file, little-endian."""
    step = max(1, _BYTES_AT_ONCE // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), step):
        part = np.ascontiguousarray(array[start : start + step])
        file.write(part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes())


def map_arrays(path: str | Path) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """
    Metadata and arrays of a safetensors file; the system reads their pages when they are used, and may drop them.

    Changes of the arrays stay in memory and are not written.

    Raises
    ------
    InputError
        If the file is missing, damaged or truncated.
    """
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if length <= size else b""
        table = json.loads(text)
        metadata = {str(name): str(item) for name, item in table.pop("__metadata__", {}).items()}
        arrays = {}
        for name, item in table.items():
            start, end = item["data_offsets"]
            shape, dtype = tuple(map(int, item["shape"])), np.dtype(_NAMES[item["dtype"]])
            if end - start != math.prod(shape) * dtype.itemsize or 8 + length + end > size:
                raise ValueError(f"it ends inside '{name}'")
            arrays[str(name)] = map_file(path, shape, dtype, offset=8 + length + start)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is damaged, or no file of arrays ({error}).") from None
    return metadata, arrays


def map_file(
    path: str | Path, shape: tuple[int, ...], dtype: np.dtype[Any], *, offset: int = 0
) -> NDArray[Any]:
    """Numbers of a file as an array; see `map_arrays`."""
    if not math.prod(shape):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "c", offset, shape)


class ArraySpool:
    """Arrays that grow row by row in files of a folder, so that memory stays flat."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._rows = 0

    def append(self, blocks: Arrays) -> None:
        """
        Add rows to all arrays; the first call decides their names, widths and types.

        Raises
        ------
        InputError
            If a file cannot be written.
        """
        for name, block in blocks.items():
            self._shapes.setdefault(name, (block.shape[1:], block.dtype))
            try:
                with self._file(name).open("ab") as file:
                    append_rows(file, block)
            except OSError as error:
                raise InputError(
                    f"{self.folder}: the pixels cannot be written ({error.strerror})."
                ) from error
        self._rows += len(next(iter(blocks.values())))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays, mapped; the files must stay as long as they are used."""
        return {
            name: map_file(self._file(name), (self._rows, *shape), dtype)
            for name, (shape, dtype) in self._shapes.items()
        }

    def __len__(self) -> int:
        return self._rows

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.rows"
