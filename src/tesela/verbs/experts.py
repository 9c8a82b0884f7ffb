"""Verbs that apply experts: predict, unmix, and the opening of an expert that applies itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tesela.core.errors import RecipeError, wrong_kind
from tesela.io.abundance import AbundanceMap, AbundanceSource, open_abundance
from tesela.io.cube_arrays import CubeSource, open_cube
from tesela.io.maps import ClassMap
from tesela.io.scenes import SceneSource, open_scene
from tesela.models.expert import Expert as StoredExpert
from tesela.verbs.answers import File, Place, written

if TYPE_CHECKING:
    from tesela.chains.transfer import Transfer
    from tesela.mapping.cascade import Cascade
    from tesela.mapping.cascade_map import CascadePrediction
    from tesela.mapping.downscale import Downscaled
    from tesela.mapping.predict import Prediction

Progress = Callable[[int, int], None]


class Expert(StoredExpert):
    """A trained network with its header, which applies itself."""

    def predict(
        self, scene: SceneSource, out: str | Path | None = None, **options: Any
    ) -> ClassMap | AbundanceMap:
        """
        Map a scene, or unmix a cube where that is the expert's task; see `predict` and `unmix` for the options.

        Examples
        --------
        >>> tesela.open_expert("corine.safetensors").predict(array).to_xarray()     # doctest: +SKIP
        """
        if self.header.task == "segmentation":
            return predict(self, scene, out, **options)
        return unmix(self, scene, out, **options)  # type: ignore[arg-type]  # reports what is no cube

    def _repr_html_(self) -> str:
        from tesela.io.map_views import card

        header = self.header
        bands = ", ".join(header.bands)
        return card(
            f"Expert: {header.architecture.summary}; bands {bands}; pixels of {header.pixel_size_m:g} m",
            rows=[(item.color, f"{item.code} {item.name}") for item in header.legend.classes],
            header=("class",),
        )


@dataclass(frozen=True)
class Mapping:
    """How `predict` made a map."""

    prediction: Prediction | CascadePrediction
    transfer: Transfer | None = None
    """Steps of the adaptation to the scene, where one was asked for."""
    placed: Downscaled | None = None
    """What placing the given shares changed, where shares were given."""


def open_expert(path: str | Path | StoredExpert, *, device: str = "cpu") -> Expert:
    """
    Open an expert, ready to predict; see `tesela.models.expert.open_expert`.

    Parameters
    ----------
    path : str, Path or Expert
        The ``.safetensors`` file; an open expert is returned as it is.
    device : str
        Where torch puts the network.

    Raises
    ------
    ExpertError
        If the file is missing, damaged, or no expert.
    """
    from tesela.models.expert import open_expert as open_stored

    if isinstance(path, Expert):
        return path
    if not isinstance(path, StoredExpert | str | Path):
        raise wrong_kind("An expert", "the path of a .safetensors file, or an Expert", path)
    stored = path if isinstance(path, StoredExpert) else open_stored(path, device=device)
    return Expert(**{field.name: getattr(stored, field.name) for field in fields(stored)})


def open_cascade(path: str | Path | Cascade) -> Cascade:
    """Open a cascade of experts, a TOML file or a folder; see `tesela.mapping.cascade.open_cascade`."""
    from tesela.mapping.cascade import Cascade
    from tesela.mapping.cascade import open_cascade as open_stored

    return path if isinstance(path, Cascade) else open_stored(path)


def predict(
    expert: str | Path | StoredExpert | Cascade,
    scene: SceneSource,
    out: str | Path | None = None,
    *,
    window: int = 1088,
    overlap: int = 64,
    engine: str = "auto",
    precision: str = "auto",
    tta: str = "none",
    blend: str = "none",
    prior: float | None = None,
    transfer: str = "none",
    adapted: str | Path | None = None,
    any_scene: bool = False,
    missing_dates: str = "error",
    memory: str | int = "512 MiB",
    confidence: File = None,
    entropy: File = None,
    probabilities: File = None,
    shares: AbundanceSource | None = None,
    cluster: str | None = None,
    soft: bool = False,
    isolated: int = 8,
    levels: bool = False,
    bands: Sequence[str] | None = None,
    dates: Sequence[str] | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    invalid: str = "error",
    progress: Progress | None = None,
) -> ClassMap:
    """
    Map a scene with an expert, or with a cascade of experts.

    Parameters
    ----------
    expert : path, Expert or Cascade
        A ``.safetensors`` file; a cascade's TOML file or folder.
    scene : path, paths, DataArray, Dataset or Scene
        See `tesela.io.scenes.open_scene`, also for bands, dates, scale, offset, nodata and invalid.
    out : path, optional
        The map, a COG; after a crash the same call continues. Default: a temporary file that goes with the answer,
        so that scenes larger than the memory are mapped all the same; `ClassMap.to_xarray` reads it, lazily with Dask
        where it is over 256 MiB.
    window, overlap : int
        Largest side of the network's windows, and what neighbours share, in pixels.
    confidence, entropy, probabilities : path or True, optional
        Rasters to write in the same pass: `ClassMap.layers` of the answer.
    transfer : str
        Adapt the expert to a scene of another region: "none", "auto", "shift", "scene", "batch_norm" or
        "self_training"; see `tesela.chains.transfer.adapt_expert`.
    adapted : path, optional
        File for the expert that `transfer` has adapted.
    shares : path or AbundanceMap, optional
        The map keeps the share of each class in each of these coarser cells; see `tesela.mapping.downscale`.
    soft, isolated, levels
        Of cascades: see `tesela.mapping.cascade_runner.CascadeRules` and `predict_cascade`.
    engine, precision, tta, blend, prior, any_scene, missing_dates, memory, cluster, progress
        See `tesela.mapping.predict.predict_map`.

    Returns
    -------
    ClassMap
        Its `details` are a `Mapping`.

    Raises
    ------
    ExpertError, GridError, InputError, RecipeError
        As `predict_map`, `predict_cascade` and `adapt_expert`.
    """
    from tesela.mapping.cascade import Cascade
    from tesela.mapping.predict import predict_map
    from tesela.models.expert import save_expert

    opened = open_scene(
        scene, bands=bands, dates=dates, scale=scale, offset=offset, nodata=nodata, invalid=invalid
    )
    place = Place.of(out, "map.tif")
    scores = place.beside(confidence, "confidence")
    entropies = place.beside(entropy, "entropy")
    wanted = place.beside(probabilities, "probabilities")
    if isinstance(expert, Cascade) or (
        isinstance(expert, str | Path) and (Path(expert).is_dir() or Path(expert).suffix == ".toml")
    ):
        given = {
            "--blend": blend != "none",
            "--shares": shares is not None,
            "--prior": prior is not None,
            "--transfer": transfer != "none",
        }
        if any(given.values()):
            names = ", ".join(name for name, value in given.items() if value)
            raise RecipeError(f"A cascade takes no {names}; leave it out, or map with a single expert.")
        from tesela.mapping.cascade_map import predict_cascade
        from tesela.mapping.cascade_runner import CascadeRules

        cascaded = predict_cascade(
            open_cascade(expert),
            opened,
            place.path,
            window_px=window,
            overlap_px=overlap,
            engine=engine,
            precision=precision,
            memory=memory,
            tta=tta,
            rules=CascadeRules(soft=soft, isolated_px=isolated),
            confidence=scores,
            entropy=entropies,
            probabilities=wanted,
            missing_dates=missing_dates,
            levels=levels,
            any_scene=any_scene,
            cluster=cluster,
            progress=progress,
        )
        layers = written({"confidence": scores, "entropy": entropies, "probabilities": wanted})
        return replace(cascaded.map, layers=layers, details=Mapping(cascaded), held=place.held)
    if adapted is not None and transfer == "none":
        raise RecipeError(
            "--adapted writes the adapted expert: also give --transfer, such as --transfer auto."
        )
    loaded: StoredExpert = open_expert(expert)
    steps = None
    if transfer != "none":
        from tesela.chains.transfer import adapt_expert  # loads the trainings, seconds

        steps = adapt_expert(loaded, opened, method=transfer, any_scene=any_scene)
        loaded = steps.expert
        if adapted is not None:
            save_expert(adapted, loaded)
    spare, coarse = None, None
    if shares is not None:
        from tesela.mapping.downscale import group_of

        coarse = open_abundance(shares)
        group_of(loaded.header.legend, coarse.legend)  # before hours of mapping
        spare = place.beside(wanted is None, "probabilities")
    prediction = predict_map(
        loaded,
        opened,
        place.path,
        window_px=window,
        overlap_px=overlap,
        engine=engine,
        precision=precision,
        tta=tta,
        blend=blend,
        missing_dates=missing_dates,
        prior=prior,
        any_scene=any_scene,
        memory=memory,
        confidence=scores,
        entropy=entropies,
        probabilities=spare or wanted,
        cluster=cluster,
        progress=progress,
    )
    placed = None
    if coarse is not None:
        from tesela.mapping.downscale import place_shares

        placed = place_shares(prediction.map, str(spare or wanted), coarse, place.path)
        if spare is not None:
            for file in (spare, spare.with_suffix(".qml")):
                file.unlink(missing_ok=True)
    return replace(
        prediction.map,
        layers=written({"confidence": scores, "entropy": entropies, "probabilities": wanted}),
        details=Mapping(prediction, steps, placed),
        held=place.held,
    )


def unmix(
    expert: str | Path | StoredExpert,
    cube: CubeSource,
    out: str | Path | None = None,
    *,
    level: int | None = None,
    classes: File = None,
    uncertainty: File = None,
    prior: File = None,
    imputed: str | Path | None = None,
    engine: str = "auto",
    memory: str | int = "512 MiB",
    cluster: str | None = None,
    progress: Progress | None = None,
) -> AbundanceMap:
    """
    Map the share of each class in each pixel of a cube; see `tesela.mapping.abundance.unmix.unmix_cube`.

    Parameters
    ----------
    expert : path or Expert
    cube : path, Cube, Dataset or DataArray
        Zarr folder, or its series as arrays; see `tesela.io.cube_arrays.open_cube`.
    out : path, optional
        The abundance map, a COG; default: a temporary file that goes with the answer.
    classes, uncertainty, prior : path or True, optional
        Rasters to write in the same pass: `AbundanceMap.layers` of the answer.
    level, imputed, engine, memory, cluster, progress
        See `unmix_cube`.

    Returns
    -------
    AbundanceMap
        Its `details` are the `Unmixing`; `to_xarray` gives a Dataset.

    Raises
    ------
    ExpertError, InputError
        As `unmix_cube`.
    """
    from tesela.mapping.abundance.unmix import unmix_cube

    opened, source = open_expert(expert), open_cube(cube)
    place = Place.of(out, "abundances.tif")
    layers = {
        "classes": place.beside(classes, "classes"),
        "uncertainty": place.beside(uncertainty, "uncertainty"),
        "prior": place.beside(prior, "prior"),
    }
    unmixing = unmix_cube(
        opened,
        source,
        place.path,
        level=level,
        **layers,
        imputed=imputed,
        engine=engine,
        memory=memory,
        cluster=cluster,
        progress=progress,
    )
    return replace(unmixing.map, layers=written(layers), details=unmixing, held=place.held)
