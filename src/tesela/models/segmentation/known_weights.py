"""Weights that were made for satellite imagery, by the names that torchgeo gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tesela.core.errors import ExpertError, join_words
from tesela.models.segmentation.weight_bands import bands_of_known_file

_LANDSAT = "torchgeo/ssl4eo_landsat"
_SATLAS = "torchgeo/satlas"
_CLOSP = "DarthReca/CLOSP-Visual"
_SOFTCON = "wangyi111/softcon"


@dataclass(frozen=True)
class KnownWeights:
    """A file of encoder weights on the Hugging Face hub."""

    repository: str
    file: str

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of the first convolution, in order; see `tesela.models.segmentation.weight_bands.KNOWN_FILES`."""
        return bands_of_known_file(self.file)


def _landsat(encoder: str, hashes: Mapping[str, str]) -> dict[str, KnownWeights]:
    return {
        f"LANDSAT_{kind.upper()}": KnownWeights(_LANDSAT, f"{encoder}_landsat_{kind}-{digest}.pth")
        for kind, digest in hashes.items()
    }


def _satlas(encoder: str, hashes: Mapping[str, str]) -> dict[str, KnownWeights]:
    return {
        f"SENTINEL2_{kind.upper()}_SATLAS": KnownWeights(_SATLAS, f"sentinel2_{encoder}_{kind}-{digest}.pth")
        for kind, digest in hashes.items()
    }


KNOWN_WEIGHTS: Mapping[str, Mapping[str, KnownWeights]] = {
    "resnet18": {
        **_landsat(
            "resnet18",
            {
                "tm_toa_moco": "1c691b4f",
                "tm_toa_simclr": "d2d38ace",
                "etm_toa_moco": "bb88689c",
                "etm_toa_simclr": "4d813f79",
                "etm_sr_moco": "4f078acd",
                "etm_sr_simclr": "8e8543b4",
                "oli_tirs_toa_moco": "a3002f51",
                "oli_tirs_toa_simclr": "b0635cc6",
                "oli_sr_moco": "660e82ed",
                "oli_sr_simclr": "7bced5be",
            },
        ),
        "SENTINEL2_ALL_MOCO": KnownWeights(
            "torchgeo/resnet18_sentinel2_all_moco", "resnet18_sentinel2_all_moco-59bfdff9.pth"
        ),
        "SENTINEL2_RGB_MOCO": KnownWeights(
            "torchgeo/resnet18_sentinel2_rgb_moco", "resnet18_sentinel2_rgb_moco-e3a335e3.pth"
        ),
        "SENTINEL2_RGB_SECO": KnownWeights(
            "torchgeo/resnet18_sentinel2_rgb_seco", "resnet18_sentinel2_rgb_seco-cefca942.pth"
        ),
    },
    "resnet50": {
        "FMOW_RGB_GASSL": KnownWeights(
            "torchgeo/resnet50_fmow_rgb_gassl", "resnet50_fmow_rgb_gassl-da43d987.pth"
        ),
        **_landsat(
            "resnet50",
            {
                "tm_toa_moco": "ba1ce753",
                "tm_toa_simclr": "a1c93432",
                "etm_toa_moco": "e9a84d5a",
                "etm_toa_simclr": "70b5575f",
                "etm_sr_moco": "1266cde3",
                "etm_sr_simclr": "e5d185d7",
                "oli_tirs_toa_moco": "de7f5e0f",
                "oli_tirs_toa_simclr": "030cebfe",
                "oli_sr_moco": "ff580dad",
                "oli_sr_simclr": "94f78913",
            },
        ),
        "SENTINEL1_GRD_CLOSP": KnownWeights(_CLOSP, "closp-rn_s1_encoder-cacc90bc.pth"),
        "SENTINEL1_GRD_DECUR": KnownWeights("torchgeo/decur", "rn50_ssl4eo-s12_sar_decur_ep100-f0e69ba2.pth"),
        "SENTINEL1_GRD_GEOCLOSP": KnownWeights(_CLOSP, "geoclosp-rn_s1_encoder-e63ae1af.pth"),
        "SENTINEL1_GRD_MOCO": KnownWeights(
            "torchgeo/resnet50_sentinel1_all_moco", "resnet50_sentinel1_all_moco-906e4356.pth"
        ),
        "SENTINEL1_GRD_SOFTCON": KnownWeights(_SOFTCON, "B2_rn50_softcon.pth"),
        "SENTINEL2_ALL_CLOSP": KnownWeights(_CLOSP, "closp-rn_s2_encoder-183922a5.pth"),
        "SENTINEL2_ALL_DECUR": KnownWeights("torchgeo/decur", "rn50_ssl4eo-s12_ms_decur_ep100-fc6b09ff.pth"),
        "SENTINEL2_ALL_DINO": KnownWeights(
            "torchgeo/resnet50_sentinel2_all_dino", "resnet50_sentinel2_all_dino-d6c330e9.pth"
        ),
        "SENTINEL2_ALL_GEOCLOSP": KnownWeights(_CLOSP, "geoclosp-rn_s2_encoder-94c37f4a.pth"),
        "SENTINEL2_ALL_MOCO": KnownWeights(
            "torchgeo/resnet50_sentinel2_all_moco", "resnet50_sentinel2_all_moco-df8b932e.pth"
        ),
        "SENTINEL2_ALL_NDVI_SECO_ECO": KnownWeights(
            "torchgeo/seco-eco-ndvi", "resnet50_sentinel2_all_ndvi_seco_eco-3a74b167.pth"
        ),
        "SENTINEL2_ALL_SECO_ECO": KnownWeights(
            "torchgeo/seco-eco", "resnet50_sentinel2_all_seco_eco-a273eb78.pth"
        ),
        "SENTINEL2_ALL_SOFTCON": KnownWeights(_SOFTCON, "B13_rn50_softcon.pth"),
        "SENTINEL2_RGB_MOCO": KnownWeights(
            "torchgeo/resnet50_sentinel2_rgb_moco", "resnet50_sentinel2_rgb_moco-2b57ba8b.pth"
        ),
        "SENTINEL2_RGB_SECO": KnownWeights(
            "torchgeo/resnet50_sentinel2_rgb_seco", "resnet50_sentinel2_rgb_seco-018bf397.pth"
        ),
        **_satlas(
            "resnet50",
            {"mi_ms": "da5413d2", "mi_rgb": "e79bb7fe", "si_ms": "1f454cc6", "si_rgb": "45fc6972"},
        ),
    },
    "resnet152": _satlas(
        "resnet152",
        {"mi_ms": "fd35b4bb", "mi_rgb": "67563ac5", "si_ms": "4500c6cb", "si_rgb": "f4d24c3c"},
    ),
}
"""Weights of torchgeo [Stewart2022]_ by encoder and name."""


def find_known_weights(encoder: str, name: str) -> KnownWeights | None:
    """
    Weights of an encoder by torchgeo's name; None if there is no such name.

    Parameters
    ----------
    encoder : str
        Name of smp or timm; "tu-resnet18" is "resnet18".
    name : str
        "SENTINEL2_ALL_MOCO", also written "ResNet18_Weights.SENTINEL2_ALL_MOCO"; in any case.

    Raises
    ------
    ExpertError
        If the name is known, but of another encoder.

    Examples
    --------
    >>> find_known_weights("resnet18", "ResNet18_Weights.LANDSAT_OLI_SR_MOCO").file
    'resnet18_landsat_oli_sr_moco-660e82ed.pth'
    """
    plain = encoder.removeprefix("tu-")
    family, _, short = name.upper().rpartition("_WEIGHTS.")
    wanted = KNOWN_WEIGHTS.get(plain, {}).get(short)
    if wanted is not None and family in ("", plain.upper()):
        return wanted
    others = [
        item
        for item, weights in KNOWN_WEIGHTS.items()
        if short in weights and family in ("", item.upper()) and item != plain
    ]
    if others:
        raise ExpertError(
            f"Weights '{name}' are of encoder {join_words(others)}, not of '{plain}'. Set encoder = \"{others[0]}\"."
        )
    return None


def known_weights_file(encoder: str, name: str) -> Path | None:
    """
    Local file of weights that torchgeo names: from its cache, the hub's cache, or downloaded from the hub.

    Returns
    -------
    Path or None
        None if there are no such weights.

    Raises
    ------
    ExpertError
        If the weights are of another encoder, or cannot be downloaded: the message names the file to get.
    """
    import torch
    from huggingface_hub import hf_hub_download

    from tesela.models.segmentation.weights import quiet_hub

    known = find_known_weights(encoder, name)
    if known is None:
        return None
    cached = Path(torch.hub.get_dir()) / "checkpoints" / known.file  # where torchgeo keeps it
    if cached.is_file():
        return cached
    try:
        with quiet_hub():
            return Path(hf_hub_download(known.repository, known.file))
    except (OSError, RuntimeError, ValueError) as error:
        raise ExpertError(
            f"The weights '{name}' of encoder '{encoder.removeprefix('tu-')}' are not on this machine and cannot be "
            f"downloaded ({type(error).__name__}). Fetch {known.file} of {known.repository} on Hugging Face on a "
            f'connected machine and point weights to the file: weights = "{known.file}"; or leave weights out.'
        ) from error
