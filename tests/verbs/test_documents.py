"""The examples of docs/python.md run as they stand there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

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
@pytest.mark.filterwarnings("ignore")  # for a reader, too, a warning is no error
def test_fifteen_lines_do_the_chain_from_an_array_and_a_geodataframe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region, chain = [block for block in BLOCKS if not block.startswith(">>>")]
    lines = [line for line in chain.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 15
    quick = 'model="unet", encoder="tu-mobilenetv3_small_050", decoder="small", epochs=2'
    monkeypatch.chdir(tmp_path)
    made: dict[str, Any] = {}
    exec(compile(region + chain.replace('budget="30 s"', quick), "python.md", "exec"), made)
    assert made["scores"]["iou"].max() > 0
    assert len(made["polygons"]) > 1
    assert len(made["points"]) >= 300
    assert set(made["queue"]["verdict"])
    assert made["array"].shape == (320, 320)
    assert made["array"].rio.crs.to_epsg() == 25830
    left = ["map.qml", "map.tif", "map.tif.aux.xml", "region"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left
