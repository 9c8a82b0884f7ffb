"""Mosaic classes of small parcels."""

from pathlib import Path

import numpy as np
import pytest

from pixel_maps import Values, read_all, written
from tesela.core.errors import LegendError
from tesela.generalise.generalise import generalise_map
from tesela.generalise.mosaic import MosaicRule, Share
from tesela.io.legends import open_legend


def parcels(first: int, second: int, *, cell: int = 4, cells: int = 6) -> Values:
    """A chequerboard of parcels of two classes within class 9 (here: code of forest or towns)."""
    board = np.indices((cells, cells)).sum(axis=0) % 2
    values = np.full((cells * cell + 8, cells * cell + 8), 9, np.uint8)
    values[4:-4, 4:-4] = np.kron(np.where(board, first, second), np.ones((cell, cell))).astype(np.uint8)
    return values


RULE = MosaicRule("c5", (Share(("c1", "c2", "c5")),))


def mosaicked(
    folder: Path, values: Values, rule: MosaicRule, *, mmu_m2: float = 20_000
) -> tuple[Values, set[str]]:
    out, log = generalise_map(written(folder, values), folder / "out.tif", mmu_m2=mmu_m2, mosaic=[rule])
    return read_all(out), {move.reason for move in log.moves}


def test_small_parcels_of_two_crops_become_the_mixed_class(tmp_path: Path) -> None:
    values, reasons = mosaicked(tmp_path, parcels(1, 2), RULE)
    assert (values[4:-4, 4:-4] == 5).all()
    assert (values[:4] == 9).all()
    assert reasons == {"mosaic"}


def test_a_group_under_the_unit_or_of_one_class_is_no_mosaic(tmp_path: Path) -> None:
    values, reasons = mosaicked(tmp_path, parcels(1, 2), RULE, mmu_m2=60_000)
    assert not (values == 5).any()
    assert reasons == {"unit"}
    single = parcels(1, 2)
    single[single == 2] = 9
    assert not (mosaicked(tmp_path, single, RULE)[0] == 5).any()


def test_a_mosaic_keeps_the_shares_of_its_rule(tmp_path: Path) -> None:
    rule = MosaicRule("c5", (Share(("c1",), 0.25, 0.75), Share(("c2",), 0.25, 0.75)))
    assert (mosaicked(tmp_path, parcels(1, 2), rule)[0] == 5).any()
    strict = MosaicRule("c5", (Share(("c1",), 0.6), Share(("c2",))))
    assert not (mosaicked(tmp_path, parcels(1, 2), strict)[0] == 5).any()


@pytest.mark.parametrize(("most_single", "made"), [(0.5, True), (0.49, False)])
def test_a_class_that_covers_most_of_a_group_makes_no_mosaic(
    tmp_path: Path, most_single: float, made: bool
) -> None:
    rule = MosaicRule("c5", RULE.parts, most_single=most_single)
    assert (mosaicked(tmp_path, parcels(1, 2), rule)[0] == 5).any() == made


def test_a_group_cut_by_the_edge_is_a_mosaic_only_if_edges_are_merged(tmp_path: Path) -> None:
    board = parcels(1, 2)[4:-4, 4:-4]
    for edges, small in (("keep", False), ("merge", True)):
        source = written(tmp_path, np.ascontiguousarray(board[:8, :8]))
        out, _ = generalise_map(source, tmp_path / "o.tif", mmu_m2=6000, mosaic=[RULE], edges=edges)
        assert (read_all(out) == 5).all() == small


def test_a_group_is_used_by_one_rule_only(tmp_path: Path) -> None:
    values = np.hstack([parcels(1, 2)[:, :-4], parcels(3, 4)[:, 4:]])
    rules = [MosaicRule("c5", (Share(("c1", "c2")),)), MosaicRule("c6", (Share(("c3", "c4", "c5")),))]
    source = written(tmp_path, values)
    out, _ = generalise_map(source, tmp_path / "out.tif", mmu_m2=20_000, mosaic=rules)
    made = read_all(out)
    assert (made[4:-4, 4:28] == 5).all()
    assert (made[4:-4, 28:-4] == 6).all()


def test_corine_has_mosaic_rules_and_other_legends_are_refused(tmp_path: Path) -> None:
    legend = open_legend("corine-2")
    table = np.zeros(10, np.uint8)
    table[[1, 2, 9]] = legend["21"].value, legend["22"].value, legend["31"].value
    source = written(tmp_path, table[parcels(1, 2)], legend)
    out, _ = generalise_map(source, tmp_path / "out.tif", mmu_m2=20_000, mosaic=True)
    assert (read_all(out)[4:-4, 4:-4] == legend["24"].value).all()
    with pytest.raises(LegendError, match="has no mosaic rules"):
        generalise_map(written(tmp_path, parcels(1, 2)), tmp_path / "o.tif", mmu_m2=1, mosaic=True)
