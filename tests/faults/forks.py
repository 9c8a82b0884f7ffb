"""Runs in forks of this process: its libraries are loaded already, and a fork can be killed at any moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_MOVES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.truncate",
    "shutil.rmtree",
    "sqlite3.connect",
}

LIBRARIES = (
    "tesela.cli.app",
    "geopandas",
    "pyogrio",
    "rasterio.features",
    "zarr",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "openpyxl",
    "jinja2",
    "scipy.ndimage",
    "tesela.assessment.files",
    "tesela.accounting.files",
    "tesela.sampling.files",
    "tesela.generalise",
    "tesela.publishing.products",
)
NETWORKS = (
    "torch",
    "lightning",
    "segmentation_models_pytorch",
    "timm",
    "sklearn.ensemble",
    "tesela.mapping.predict",
    "tesela.training.segmentation.train",
    "tesela.training.unmixing.train",
    "tesela.chains.corine.chain",
    "tesela.chains.lulucf.chain",
    "tesela.chains.unmixing.chain",
)


@dataclass(frozen=True)
class End:
    """How a fork ended."""

    status: int
    """Exit status; negative: the signal that killed it."""
    text: str
    """What it wrote on stderr."""
    seconds: float
    hung: bool = False
    sent: bool = True
    """Whether the signal was sent before it ended."""
    steps: int = 0
    """Changes of the file system that Python made, where they were counted."""


def load(*, networks: bool) -> None:
    """
    Load what the commands load, but run nothing: threads do not survive a fork.

    Parameters
    ----------
    networks : bool
        Whether commands use networks or trees; else their libraries, of seconds each, are left out.
    """
    from importlib import import_module

    for name in LIBRARIES + NETWORKS * networks:
        try:
            import_module(name)
        except ImportError as error:
            sys.stderr.write(f"not loaded: {error}\n")
    import numba

    numba.njit(_add)(1)  # the tables of the compiler, which has no threads


def _add(value: int) -> int:
    return value + 1


def run(
    work: Callable[[], int],
    folder: Path,
    *,
    number: int = 0,
    after_s: float | None = None,
    at_step: int | None = None,
    limit_s: float = 240,
) -> End:
    """
    Run `work` in a fork whose current folder is `folder`, and send it a signal.

    Parameters
    ----------
    number : int
        The signal; 0 for none.
    after_s : float, optional
        Send it after so many seconds.
    at_step : int, optional
        Send it when the fork is about to make this change of the file system (open for writing, rename, remove).
    """
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp())  # not on the disk that may be full
    said, counted = aside / "stderr", aside / "steps"
    begun = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_child(work, folder, said, counted, number, at_step)
    sent = hung = False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        spent = time.monotonic() - begun
        if number and after_s is not None and not sent and spent >= after_s:
            os.kill(child, number)
            sent = True
        if spent > limit_s:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    seconds = time.monotonic() - begun
    code = os.waitstatus_to_exitcode(status)
    steps = int(counted.read_text() or 0) if counted.exists() else 0
    text = said.read_text(errors="replace") if said.exists() else ""
    shutil.rmtree(aside)
    if at_step is not None:
        sent = steps >= at_step
    return End(code, text, seconds, hung=hung, sent=sent, steps=steps)


def _be_child(
    work: Callable[[], int], folder: Path, said: Path, counted: Path, number: int, at_step: int | None
) -> None:
    """Never returns."""
    code = 70
    try:
        null = os.open(os.devnull, os.O_RDWR)
        err = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(err, 2)
        os.chdir(folder)
        if at_step is not None:
            _count_steps(counted, number, at_step)
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever a command lets out is what the loops look for
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count_steps(counted: Path, number: int, at_step: int) -> None:
    """Send this process a signal at a change of the file system; 0: only count them."""
    done = [0]
    file = os.open(counted, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    own = os.getpid()

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _MOVES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            if os.getpid() != own:
                return
            done[0] += 1
            os.pwrite(file, str(done[0]).encode(), 0)
            if number and done[0] == at_step:
                os.kill(own, number)

    sys.addaudithook(hook)


def pick_moment(rng: random.Random, *, seconds: float, steps: int) -> dict[str, float | int]:
    """A random moment of a run: half of them by time, half at a change of the file system."""
    if steps and rng.random() < 0.5:
        return {"at_step": rng.randint(1, steps)}
    return {"after_s": rng.uniform(0, seconds)}
