"""The examples of docs/python.md run as they stand there."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path

import odc.geo.xr  # noqa: F401 - the examples assign a CRS by it
import pytest

from repository import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_examples_print_what_the_page_says() -> None:
    text = "\n".join(block for block in BLOCKS if block.startswith(">>>"))
    examples = doctest.DocTestParser().get_doctest(text, {}, "python.md", "python.md", 0)
    assert len(examples.examples) >= 10
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples).failed == 0


@pytest.mark.slow
def test_fifteen_lines_do_the_chain_from_an_array_and_a_geodataframe(tmp_path: Path) -> None:
    region, chain = [block for block in BLOCKS if not block.startswith(">>>")]
    lines = [line for line in chain.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 15
    quick = 'model="unet", encoder="tu-mobilenetv3_small_050", decoder="small", epochs=2'
    code = region + chain.replace('budget="30 s"', quick) + (
        "assert scores['iou'].max() > 0 and len(polygons) > 1 and len(points) >= 300 and set(queue['verdict'])\n"
        "assert array.shape == (320, 320) and array.rio.crs.to_epsg() == 25830\n"
        "import pathlib\n"
        "print(*sorted(path.name for path in pathlib.Path().iterdir()))\n"
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "map.qml map.tif map.tif.aux.xml region"
