"""
Faults: a map that is killed again and again, made by workers that are lost, and written to a full disk.

    .venv/bin/python benchmarks/faults.py [--kills 20] [--disk FOLDER]

Each run is a `tesela predict` in a process of its own. Killed at random moments until it ends by itself, the map must
have the SHA-256 of an undisturbed one; so must one made by two Dask workers of which one is killed. For the full disk
a small tmpfs is mounted (this needs root; else name a small file system with --disk). Prints one JSON document.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from mapping.probe import machine

ROWS, COLS = 3000, 1200
STRIPS = 12
OPTIONS = ["--window", "320", "--engine", "torch", "--precision", "fp32", "--quiet"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--disk", type=Path, help="folder on a file system of a few megabytes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene, expert = prepare(folder)
        begun = time.perf_counter()
        assert predict(expert, scene, folder / "whole.tif").wait() == 0
        seconds = time.perf_counter() - begun
        expected = sha256(folder / "whole.tif")
        document = {
            "machine": machine(),
            "undisturbed": {"seconds": round(seconds, 1), "sha256": expected},
            "killed": killed_runs(expert, scene, folder, kills=options.kills),
            "lost_worker": lost_worker(expert, scene, folder),
            "full_disk": full_disk(expert, scene, folder, disk=options.disk),
        }
    same = [document[key].get("sha256") == expected for key in ("killed", "lost_worker", "full_disk")]  # type: ignore[index]
    print(json.dumps(document | {"all_the_same": all(same)}, indent=2))


def prepare(folder: Path) -> tuple[Path, Path]:
    import torch

    from mapping.work import header, write_texture
    from tesela.models.expert import Expert, save_expert
    from tesela.models.segmentation.unet import UnetArchitecture

    architecture = UnetArchitecture(3, 12, encoder="resnet18", decoder_channels=(32, 16, 16, 8, 8))
    torch.manual_seed(0)
    expert = Expert(header(architecture, mean=(125.0,) * 3, std=(45.0,) * 3), architecture.build().eval())
    scene = write_texture(folder / "scene.tif", ROWS, COLS)
    return scene, save_expert(folder / "expert.safetensors", expert)


def predict(expert: Path, scene: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", "from tesela.cli import main; import sys; sys.exit(main())", "predict"]
    words += [str(expert), str(scene), "-o", str(out), *OPTIONS, *more]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def killed_runs(expert: Path, scene: Path, folder: Path, *, kills: int) -> dict[str, object]:
    """
    Kill again and again at random moments, then let a run end.

    A moment is up to 0.3 s after a random number of parts is there, from none (while it starts) to all (while it
    writes the map). Runs that end, or have renamed the finished map, before they are killed are counted apart, their
    map is compared, and the next begins anew.
    """
    random_moment = random.Random(0)
    expected = sha256(folder / "whole.tif")
    out, parts = folder / "killed.tif", folder / ".killed.tif.parts"
    left: list[int] = []
    ended_whole = ended_wrong = 0
    while len(left) < kills:
        process = predict(expert, scene, out)
        wanted = random_moment.randint(0, STRIPS)
        while process.poll() is None and len(list(parts.glob("*.part"))) < wanted:
            time.sleep(0.002)
        time.sleep(random_moment.uniform(0, 0.3))
        process.kill()
        process.wait()
        if out.exists():
            ended_whole += sha256(out) == expected
            ended_wrong += sha256(out) != expected
            out.unlink()
        else:
            left.append(len(list(parts.glob("*.part"))))
    assert predict(expert, scene, out).wait() == 0
    return {
        "kills": len(left),
        "parts_left_after_each": left,
        "ended_before_the_kill": {"whole": ended_whole, "wrong": ended_wrong},
        "sha256": sha256(out) if not ended_wrong else "an output was not whole",
    }


def lost_worker(expert: Path, scene: Path, folder: Path) -> dict[str, object]:
    """Two workers; one is killed when two parts are there."""
    import distributed

    out = folder / "cluster.tif"
    parts = folder / ".cluster.tif.parts"
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        with distributed.Client(cluster) as client:
            victim = min(client.run(os.getpid).values())

        def kill() -> None:
            while len(list(parts.glob("*.part"))) < 2:
                time.sleep(0.01)
            os.kill(victim, signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
        code = predict(expert, scene, out, "--cluster", cluster.scheduler_address).wait()
        with distributed.Client(cluster) as client:
            alive = list(client.run(os.getpid).values())
    return {"exit": code, "worker_was_lost": victim not in alive, "sha256": sha256(out)}


def full_disk(expert: Path, scene: Path, folder: Path, *, disk: Path | None) -> dict[str, object]:
    """Write to a file system with too little room, make room, write again."""
    mounted = disk is None
    disk = disk or folder / "disk"
    if mounted:
        disk.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True
        )
        if done.returncode:
            return {"skipped": "no tmpfs can be mounted (not root?); name a small file system with --disk"}
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - 700_000)))
        process = predict(expert, scene, disk / "map.tif")
        message = process.communicate()[1].strip()
        left = len(list((disk / ".map.tif.parts").glob("*.part")))
        exists = (disk / "map.tif").exists()
        ballast.unlink()
        code = predict(expert, scene, disk / "map.tif").wait()
        return {
            "exit_when_full": process.returncode,
            "message": message.replace(str(folder), ""),
            "output_when_full": exists,
            "parts_kept": left,
            "exit_with_room": code,
            "sha256": sha256(disk / "map.tif"),
        }
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=False)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
