"""The labels of the lulucf chain: SIOSE AR by its rules, crowns by what shows them, others as in all chains."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tesela.chains.lulucf.recipe import CanopySection, LabelSection, shows_trees
from tesela.chains.scene_labels import SceneLabels
from tesela.chains.targets import Target
from tesela.core.errors import RecipeError, join_words
from tesela.io.addresses import in_folder
from tesela.io.maps import open_map
from tesela.labels.canopy import BuiltLand, write_canopy_labels
from tesela.labels.siose import label_sheet
from tesela.recipes.sections import SceneSection
from tesela.sources.pnoa import check_one_sheet, check_zone
from tesela.sources.siose.geopackage import is_siose
from tesela.sources.siose.rules import SioseRules


class SheetLabels(SceneLabels):
    """Labels of the experts on sheets of orthophotos."""

    every_map: ClassVar[bool] = False

    def check_scene(self, section: SceneSection) -> None:
        """Check that the files are of one sheet of PNOA, and of the zone that their names give."""
        super().check_scene(section)
        check_one_sheet(section.paths)
        grid = self.scenes.open_images(section).grid
        for path in section.paths:
            check_zone(path, grid)

    def facts(self, target: Target, path: str | Path) -> str:
        """As in all chains, but for crowns that another layer shows, and for SIOSE AR, whose layers are known."""
        source = target.reference
        if isinstance(source, LabelSection) and source.canopy is not None and shows_trees(target.legend):
            return ""
        return "SIOSE AR" if is_siose(path) else super().facts(target, path)

    def draw(self, target: Target, section: SceneSection) -> None:
        """Draw crowns where the recipe names what shows them, SIOSE AR by its rules, others by their crosswalk."""
        source = target.reference
        assert isinstance(source, LabelSection)
        if source.canopy is not None and shows_trees(target.legend):
            self._draw_crowns(target, section, source.canopy)
            return
        path = self.reference_file(target, section)
        siose = is_siose(path)
        if path == in_folder(self.scenes.folder, source.path):
            _check_keys(source, path, siose=siose)
        if not siose:
            super().draw(target, section)
            return
        label_sheet(
            path,
            target.label_file(section),
            image=in_folder(self.scenes.folder, section.paths[0]),
            legend=target.legend,
            rules=source.rules,
            outlines=None if source.outlines is None else self.scenes.folder / source.outlines,
        )

    def _draw_crowns(self, target: Target, section: SceneSection, canopy: CanopySection) -> None:
        """Draw tree cover from what shows crowns; the labels of the first expert tell where roofs are."""
        first = self.targets[0]
        codes = tuple(code for code in canopy.roofs if code in first.legend)
        built = None
        if codes and target is not first and first.label_file(section).exists():
            built = BuiltLand(open_map(first.label_file(section)), codes)
        write_canopy_labels(
            [self.scenes.folder / path for path in canopy.paths],
            target.label_file(section),
            like=self.scenes.open_images(section).grid,
            legend=target.legend,
            rules=canopy.rules,
            built=built,
        )


def _check_keys(reference: LabelSection, path: str | Path, *, siose: bool) -> None:
    """Refuse keys of a reference that would be ignored."""
    usual = LabelSection.model_construct(path=reference.path)
    rules = reference.rules != SioseRules()
    keys = {
        "layer, field, source or crosswalk": siose
        and any(
            getattr(reference, key) != getattr(usual, key)
            for key in ("layer", "field", "source", "crosswalk")
        ),
        "mode, min_share, min_area, trees, canopy_percent, land_use, interpreted or years": not siose
        and rules,
        "outlines": not siose and reference.outlines is not None,
    }
    ignored = [name for name, given in keys.items() if given]
    if ignored:
        kind = "SIOSE AR, which is read by its own fields" if siose else "not SIOSE AR"
        raise RecipeError(f"{path} is {kind}: leave {join_words(ignored)} out of its reference.")
