"""Parts: finished pieces of an output under way, from which a killed run resumes, and Dask workers that make them."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from tesela.core.errors import InputError, RecipeError, TeselaError
from tesela.core.machine import lock_file
from tesela.core.temporary import remove_abandoned


class Numbered(Protocol):
    """A task, with the number of its part."""

    @property
    def number(self) -> int:
        """Number of its part."""


Task = TypeVar("Task", bound=Numbered)

REPLY_S = 30.0
"""A scheduler must reply within so many seconds."""

FREE_PORT = {"dashboard_address": "localhost:0"}
"""For a scheduler, which otherwise takes port 8787 even without a dashboard, so that two runs at once would collide."""

_CODEC = pa.Codec("zstd", 1)
_HEADER = 24
"""Bytes of the shape of a part, before its compressed layers."""
"""The smallest result of the fast codecs: class maps shrink to a fifth at 500 MB a second."""


class PartStore:
    """
    Folder beside an output, ``.NAME.parts``, with one compressed file per finished piece and the plan they belong to.

    A part appears whole or not at all (written aside, synced, renamed), so a run killed at any moment leaves only
    good parts. Parts of another plan are removed. One process at a time holds the store.
    """

    def __init__(self, output: str | Path) -> None:
        self.output = Path(output)
        self.folder = self.output.with_name(f".{self.output.name}.parts")
        self._lock: IO[str] | None = None
        self._left_over = False

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            lock_file(self._lock)
        except OSError:
            self._lock.close()
            raise InputError(
                f"{self.output}: another run is writing this output; wait for it or name another output."
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            if kind is not None and not any(self.folder.glob("*.part")):
                self.remove()  # nothing to go on with
            self._lock.close()
            if self._left_over:
                self.remove()

    def saved_plan(self) -> Mapping[str, Any] | None:
        """Plan of the stored parts, or None."""
        try:
            document = json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):  # damaged: all parts are made again
            return None
        return document if isinstance(document, dict) else None

    def start(self, plan: Mapping[str, Any]) -> None:
        """Keep the parts if they belong to this plan; else remove them and start again."""
        document = json.loads(json.dumps(plan))
        if self.saved_plan() == document:
            self._remove_damaged()
            return
        for file in self.folder.iterdir():
            if file.name != "lock":
                file.unlink()
        self._write("plan.json", json.dumps(document).encode())

    def has(self, number: int) -> bool:
        """Whether a part is finished."""
        return self._path(number).exists()

    def write(self, number: int, layers: NDArray[np.uint8]) -> None:
        """
        Store a part.

        Parameters
        ----------
        layers : (layers, rows, cols) array of uint8

        Raises
        ------
        InputError
            If the disk is full; finished parts are kept for the next run.
        """
        header = np.array(layers.shape, "<i8").tobytes()
        content = header + _CODEC.compress(np.ascontiguousarray(layers), asbytes=True)
        self._write(self._path(number).name, _sealed(content))

    def read(self, number: int) -> NDArray[np.uint8]:
        """
        Return a part: (layers, rows, cols) array of uint8.

        Raises
        ------
        InputError
            If its bytes are not those that were written.
        """
        content = _unsealed(self._path(number).read_bytes(), least=_HEADER)
        if content is None:
            self._path(number).unlink(missing_ok=True)
            raise InputError(
                f"{self.output}: a finished part of it is damaged ({self._path(number).name}) and was removed. Run the "
                f"same command again to make it anew, and check the disk."
            )
        shape = np.frombuffer(content[:_HEADER], "<i8")
        plain = _CODEC.decompress(memoryview(content)[_HEADER:], decompressed_size=int(shape.prod()))
        return np.frombuffer(plain, np.uint8).reshape(shape)

    def note(self, number: int, document: Mapping[str, Any]) -> None:
        """Store a document beside a part, before the part itself."""
        self._write(f"{number:08d}.json", _sealed(json.dumps(document).encode()))

    def notes(self) -> Iterator[Any]:
        """Documents of the finished parts, in their order; `start` has removed damaged ones."""
        for file in sorted(self.folder.glob("*.part")):
            yield json.loads(_unsealed(file.with_suffix(".json").read_bytes()) or b"")

    def _remove_damaged(self) -> None:
        """Remove parts whose bytes or documents are not those that were written; they are made again."""
        for file in self.folder.glob("*.part"):
            note = file.with_suffix(".json")
            try:
                sound = _unsealed(file.read_bytes(), least=_HEADER) is not None
                if note.exists():
                    json.loads(_unsealed(note.read_bytes()) or b"")
            except (OSError, ValueError):
                sound = False
            if not sound:
                file.unlink(missing_ok=True)
                note.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the store, when the output is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._left_over = self.folder.exists()  # Windows keeps the lock, which is open, until the block ends

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.part"

    def _write(self, name: str, content: bytes) -> None:
        aside = self.folder / f"{name}.{uuid.uuid4().hex}.aside"  # two machines may make one part
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(aside).replace(self.folder / name)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise InputError(
                f"{self.output}: cannot be written ({error.strerror}). Make room on the disk and run the same command "
                f"again: finished parts are kept in {self.folder.name}."
            ) from error


def remove_left_over(output: Path) -> None:
    """Remove what a killed run left beside a finished output: parts and temporary folders that no program holds."""
    remove_abandoned(output)
    store = PartStore(output)
    if store.folder.exists():
        with suppress(InputError), store:
            store.remove()


def _sealed(content: bytes) -> bytes:
    """The bytes, after their digest."""
    return xxhash.xxh3_64_digest(content) + content


def _unsealed(content: bytes, *, least: int = 0) -> bytes | None:
    """Bytes of `_sealed` without their digest; None if they are damaged, or fewer than `least`."""
    digest, rest = content[:8], content[8:]
    return rest if len(rest) >= least and xxhash.xxh3_64_digest(rest) == digest else None


def run_tasks(
    address: str,
    tasks: Sequence[Task],
    work: Callable[[Task, PartStore], None],
    *,
    store: PartStore,
    advance: Callable[[int], None],
) -> None:
    """
    Make parts on the workers of a Dask scheduler.

    Other workers repeat the tasks of a lost worker, except for the parts that it has stored.

    Parameters
    ----------
    address : str
        "local" for worker processes on this machine (as many as it has cores, one thread each), else the
        address of a scheduler, such as "tcp://host:8786". All workers must see inputs and output under the same
        paths.
    work : callable of (task, PartStore)
        Makes the part of a task and stores it, on a worker; not called where another worker has stored it.
    advance : callable of int
        Called with the number of each part that is done.

    Raises
    ------
    RecipeError
        If there is no scheduler at the address, or dask is not installed.
    InputError
        If a task failed, or its part did not arrive in this machine's view of the file system.
    """
    dask = _dask()
    with _connect(address) as client:
        make = partial(_make_part, work=work, output=str(store.output.resolve()))
        futures = client.map(make, list(tasks), pure=False)
        try:
            for future in dask.as_completed(futures):
                if future.status != "finished":
                    raise _reason(future.exception())
                number = future.result()
                if isinstance(number, TeselaError):
                    raise number
                if not store.has(number):
                    raise InputError(
                        f"{store.output}: a worker stored a part that this machine cannot see. Write the output to a "
                        f"file system that all workers and this machine share under the same path."
                    )
                advance(number)
                future.release()
        finally:
            client.cancel(futures)


def _make_part(task: Task, *, work: Callable[[Task, PartStore], None], output: str) -> int | TeselaError:
    """Number of a part that is made, on a worker, or the error: a raised error may lose its cause on the way."""
    store = PartStore(output)  # not entered: the client has its lock
    try:
        if not store.has(task.number):
            work(task, store)
    except TeselaError as error:
        return type(error)(str(error))
    return task.number


def worker_threads() -> int:
    """Threads of the Dask worker that runs this code."""
    return int(_dask().get_worker().state.nthreads)


@contextmanager
def _connect(address: str) -> Iterator[Any]:
    """Client of a scheduler; closed, with the local cluster, when the block ends."""
    dask = _dask()
    if address == "local":
        cluster = dask.LocalCluster(
            threads_per_worker=1, dashboard_address=None, scheduler_kwargs=FREE_PORT, memory_limit=0
        )
        with cluster, dask.Client(cluster) as client:
            yield client
        return
    try:
        client = dask.Client(address, timeout=REPLY_S)
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"No Dask scheduler answers at '{address}' ({error}). Start one (dask scheduler), or use 'local'."
        ) from None
    with client:
        yield client


def _dask() -> Any:
    """The package distributed, which has no types and need not be installed."""
    try:
        return import_module("distributed")
    except ImportError:
        raise RecipeError("A cluster needs dask and distributed; install tesela's extra 'cluster'.") from None


def _reason(error: BaseException | None) -> BaseException:
    if isinstance(error, _dask().KilledWorker):
        return InputError(
            "A part was given up after several workers were lost. Give them less to do at a time (lower --memory or "
            "--window) and check that they keep running. Run the same command again to continue."
        )
    return error or InputError("A part was cancelled; run the same command again to continue.")
