"""Damage where a checksum can tell, or what is left can be kept; the loop over all kinds is in `damage.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tesela.core.errors import InputError
from tesela.io.manifest import Manifest
from tesela.io.parts import PartStore
from tesela.web.log import VerdictLog
from tesela.web.verdicts import Verdict


def test_a_damaged_part_is_thrown_away_and_made_again(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.uint8).reshape(1, 6, 10)
    with PartStore(tmp_path / "map.tif") as store:
        store.start({"a": 1})
        for number in range(3):
            store.note(number, {"n": number})
            store.write(number, values)
    part = tmp_path / ".map.tif.parts" / "00000001.part"
    content = bytearray(part.read_bytes())
    content[-3] ^= 1
    part.write_bytes(content)
    (tmp_path / ".map.tif.parts" / "00000002.json").write_text("{")
    with PartStore(tmp_path / "map.tif") as store:
        with pytest.raises(InputError, match="is damaged"):
            store.read(1)
        store.start({"a": 1})
        assert [store.has(number) for number in range(3)] == [True, False, False]
        assert (store.read(0) == values).all()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        '{"step": 3}',
        '{"step": "x", "inputs": [1]}',
        "\\xff",
        '{"step": "x", "outputs": {"a": 1}}',
    ],
)
def test_a_damaged_manifest_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert Manifest.read(tmp_path) is None


def test_what_can_be_read_of_a_damaged_log_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.review.sqlite"
    with VerdictLog(path) as log:
        for number in range(300):
            log.add(
                Verdict(
                    key=f"k{number}", reviewer="ana", item_id=f"p{number}", quality="high", note="n" * 200
                )
            )
        with log.reading() as base:
            base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    at = content.find(b"p150")
    content[at // 4096 * 4096 : at // 4096 * 4096 + 4096] = bytes(4096)
    path.write_bytes(content)
    with VerdictLog(path) as log:
        kept = {verdict.item_id for verdict in log.standing()}
    assert 200 < len(kept) < 300
    assert "p0" in kept
