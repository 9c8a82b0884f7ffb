"""The product: a map, an expert or a cascade in its own folder, with all records for a catalogue."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError

from tesela.core.errors import ExpertError, InputError, join_words
from tesela.core.publication import Publication
from tesela.core.temporary import remove_abandoned
from tesela.io.fingerprints import file_hash
from tesela.io.lineage import imagery_dates, read_lineage
from tesela.io.manifest import Manifest, write_text, write_whole
from tesela.io.raster import grid_of, open_dataset
from tesela.io.stac_items import legend_of, raster_item, slug
from tesela.models.expert import read_header
from tesela.publishing.catalogue_record import catalogue_record
from tesela.publishing.expert import expert_item, model_card


@dataclass(frozen=True)
class Product:
    """A published map, expert or cascade."""

    item: Path
    """STAC Item."""
    files: tuple[Path, ...]
    """All files of the product, the Item last."""
    notes: tuple[str, ...] = ()
    """Missing information that a catalogue may require."""


def publish(
    path: str | Path, folder: str | Path, publication: Publication, *, beside: Sequence[str | Path] = ()
) -> Product:
    """
    Publish a map, an expert or a cascade: copy it into a folder and write the records beside it.

    A raster gets a STAC Item (``.json``), an ISO 19115 record (``.iso.xml``) and keeps its attribute table and QGIS
    style; an expert gets a STAC Item with the extension MLM and a model card (``.md``). A cascade gets one of each, and
    a card for each of its experts. The Item is written last.

    Parameters
    ----------
    path : str or Path
        Class map, abundance map or image (a COG), expert (``.safetensors``), or cascade (``.toml``, or a folder with
        ``cascade.toml``).
    beside : sequence of paths
        Other files of the product: confidence, polygons, report.

    Raises
    ------
    InputError
        If the raster is not a valid COG, a file is missing, or there is no date.
    """
    source, target = Path(path), Path(folder)
    names = [Path(item).name for item in (source, *beside)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{join_words(twice)}: two files of one product have this name; rename one.")
    if source.suffix == ".toml" or source.is_dir():
        make = _publish_cascade
    else:
        make = _publish_expert if source.suffix == ".safetensors" else _publish_raster
    return make(source, target, publication, [Path(item) for item in beside])


def check_cog(path: str | Path) -> None:
    """
    Check that a raster is a cloud-optimised GeoTIFF, by rio-cogeo.

    Raises
    ------
    InputError
        If it is not one; the message lists the reasons.
    """
    from rio_cogeo.cogeo import cog_validate

    with open_dataset(path):
        pass  # distinguishes a missing file from a broken one
    valid, errors, warnings = cog_validate(str(path), strict=True, quiet=True)
    if not valid:
        raise InputError(
            f"{path}: is not a cloud-optimised GeoTIFF ({join_words([*errors, *warnings])}). Make it one: "
            f"rio cogeo create {path} OUT.tif --overview-resampling mode."
        )
    check_tiles(path)


def check_tiles(path: str | Path) -> None:
    """
    Read every tile of a raster, of its overviews and of its mask.

    The header of a COG comes first, so it is whole in a file that was cut in a transfer.

    Raises
    ------
    InputError
        If a tile cannot be read.
    """
    with open_dataset(path) as data:
        levels = [None, *range(len(data.overviews(1)))]
        masked = MaskFlags.per_dataset in data.mask_flag_enums[0]
    for level in levels:
        options = {} if level is None else {"overview_level": level}
        try:
            with rasterio.open(path, **options) as data:
                for _, window in data.block_windows(1):
                    data.read(window=window)
                    if masked:
                        data.read_masks(1, window=window)
        except RasterioError as error:
            where = "tiles" if level is None else f"tiles of overview {level + 1}"
            raise InputError(
                f"{path}: {where} cannot be read, the file is broken or cut ({error}). Get or make it again."
            ) from None


def _publish_raster(source: Path, folder: Path, publication: Publication, beside: list[Path]) -> Product:
    check_cog(source)
    for file in beside:
        if not file.is_file():
            raise InputError(f"{file}: no such file.")
        if file.suffix.lower() in (".tif", ".tiff"):
            check_cog(file)
    steps = read_lineage(source, *beside, describe=_training)
    publication = replace(publication, date=publication.date or imagery_dates(steps, scene=source.stem))
    with open_dataset(source) as data:
        grid, legend = grid_of(data), legend_of(data)
    styles = [
        style
        for file in (source, *beside)
        for style in (file.with_suffix(".qml"), file.with_name(f"{file.name}.aux.xml"))
        if style.exists()
    ]
    copied = [_Copy(file) for file in dict.fromkeys([source, *beside, *styles])]
    record_file = folder / f"{source.stem}.iso.xml"
    item = raster_item(source, publication, beside=[*(copy.path for copy in copied[1:]), record_file])
    record = catalogue_record(source, grid, legend, publication=publication, steps=steps)
    notes = tuple(
        f"no {what} is given, which INSPIRE catalogues require ({option})"
        for what, option, text in (
            ("provider", "--provider", publication.provider),
            ("contact", "--contact", publication.contact),
        )
        if not text
    )
    return _write(folder, source.stem, copied, texts={record_file: record}, item=item, notes=notes)


def _training(path: Path) -> Manifest | None:
    """The step that trained an expert whose recipe is not at hand, from its header."""
    if path.suffix != ".safetensors":
        return None
    try:
        header = read_header(path)
    except ExpertError:  # weights of another program
        return None
    made = header.provenance
    return Manifest(
        "train",
        settings=header.training,
        inputs=made.fingerprints,
        outputs={path.name: ""},
        legend=header.legend.address,
        seed=made.seed,
        written=made.date,
        versions=made.versions,
    )


def _publish_expert(source: Path, folder: Path, publication: Publication, beside: list[Path]) -> Product:
    header = read_header(source, whole=True)
    card_file = folder / f"{source.stem}.md"
    item = expert_item(source, publication, beside=(*beside, card_file))
    card = model_card(header, publication, name=source.name)
    copied = [_Copy(path) for path in (source, *beside)]
    return _write(folder, source.stem, copied, texts={card_file: card}, item=item, notes=())


def _publish_cascade(source: Path, folder: Path, publication: Publication, beside: list[Path]) -> Product:
    from tesela.mapping.cascade import open_cascade
    from tesela.publishing.cascade import cascade_card, cascade_item, cascade_text, expert_files, expert_name

    cascade, experts = open_cascade(source), expert_files(source)
    name = slug(cascade.name)
    texts = {folder / f"{name}.toml": cascade_text(cascade)}
    copied = [_Copy(path) for path in beside]
    for member in cascade.members:
        copied.append(_Copy(experts[member.name], expert_name(member.name)))
        part = replace(publication, title=f"{publication.title}: {member.name}", description="")
        card = model_card(member.expert.header, part, name=expert_name(member.name))
        texts[folder / f"{slug(member.name)}.md"] = card
    texts[folder / f"{name}.md"] = cascade_card(cascade, publication, name=f"{name}.toml")
    stems = [name, *(slug(member.name) for member in cascade.members)]
    names = [
        *(f"{stem}.md" for stem in stems),
        *(copy.name for copy in copied),
        f"{name}.toml",
        f"{name}.json",
    ]
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise InputError(
            f"{join_words(twice)}: two files of the cascade '{cascade.name}' would have this name; name it and its "
            f"experts differently (name = ... in {source})."
        )
    item = cascade_item(cascade, experts, publication, beside=(*beside, *texts))
    return _write(folder, name, copied, texts=texts, item=item, notes=())


@dataclass(frozen=True)
class _Copy:
    path: Path
    renamed: str = ""

    @property
    def name(self) -> str:
        """Name in the product."""
        return self.renamed or self.path.name

    def write(self, folder: Path) -> Path:
        """Copy into a folder, unless the same file is there."""
        target = folder / self.name
        if target.exists() and file_hash(target) == file_hash(self.path):
            remove_abandoned(target)
            return target
        with write_whole(target) as part:
            shutil.copyfile(self.path, part)
        return target


def _write(
    folder: Path,
    name: str,
    copies: list[_Copy],
    *,
    texts: dict[Path, str],
    item: dict[str, object],
    notes: tuple[str, ...],
) -> Product:
    missing = [str(copy.path) for copy in copies if not copy.path.is_file()]
    if missing:
        raise InputError(f"{join_words(missing)}: no such file.")
    item_file = folder / f"{name}.json"
    names = [*(copy.name for copy in copies), *(path.name for path in texts), item_file.name]
    twice = sorted({each for each in names if names.count(each) > 1})
    if twice:
        raise InputError(
            f"{join_words(twice)}: is written for the product, but one of its files has this name; rename that file."
        )
    files = [copy.write(folder) for copy in copies]
    for path, text in (*texts.items(), (item_file, json.dumps(item, indent=2, ensure_ascii=False) + "\n")):
        write_text(path, text)
        files.append(path)
    return Product(item_file, tuple(files), notes)
