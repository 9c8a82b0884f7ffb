"""Networks take any bands and classes; the expert file keeps what it got and refuses what it cannot trust."""

import json
import logging
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tesela.core.errors import ExpertError
from tesela.core.legend import Legend
from tesela.models.expert import Expert, ExpertHeader, Provenance, open_expert, read_header, save_expert
from tesela.models.segmentation.unet import (
    DECODER_CHANNELS,
    SMALL_DECODER_CHANNELS,
    UnetArchitecture,
    encoder_name,
    make_unet,
)
from tesela.models.segmentation.weights import load_encoder_weights, spread_bands

TREE = Legend.from_rows(
    "tree",
    [
        {"level": "1", "value": "1", "code": "a", "name": "Land", "color": "#00ff00", "parent": ""},
        {"level": "1", "value": "2", "code": "b", "name": "Agua «dulce»", "color": "#0000ff", "parent": ""},
        {"level": "2", "value": "11", "code": "aa", "name": "Wood", "color": "#00aa00", "parent": "a"},
        {"level": "2", "value": "12", "code": "ab", "name": "Field", "color": "#aaaa00", "parent": "a"},
        {"level": "2", "value": "21", "code": "ba", "name": "Lake", "color": "#0000aa", "parent": "b"},
    ],
)
TINY = "mobilenet_v2"  # the lightest of smp's own encoders
HEADER = ExpertHeader(
    architecture=UnetArchitecture(bands=4, classes=3, encoder=TINY, decoder_channels=(16, 8, 8, 8, 8)),
    legend=TREE,
    bands=("B02", "B03", "B04", "B08"),
    mean=(0.1, 0.2, 0.3, 0.4),
    std=(0.01, 0.02, 0.03, 0.04),
    patch_size_px=128,
    pixel_size_m=10.0,
    training={"epochs": 3, "balance": "loss", "learning_rate": 1e-3},
    scores={"macro_f1": 0.5, "iou": {"aa": 0.4}},
    provenance=Provenance(seed=7, date="2026-01-02", versions={"torch": "2"}, fingerprints={"patches": "ff"}),
)


@pytest.fixture(scope="module")
def expert() -> Expert:
    torch.manual_seed(0)
    return Expert(HEADER, HEADER.architecture.build().eval())


@pytest.fixture
def path(tmp_path: Path, expert: Expert) -> Path:
    return save_expert(tmp_path / "a.safetensors", expert)


def rewrite(path: Path, change: dict[str, object]) -> Path:
    """The same expert file with other fields in its header."""
    document = HEADER.to_dict() | change
    save_file(load_file(path), path, metadata={"tesela": json.dumps(document)})
    return path


# ---- networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoder", ["resnet18", "mobilenet_v2", "mit_b0", "convnext_atto", "tu-mobilenetv3_small_100"]
)
@pytest.mark.parametrize(("bands", "classes"), [(1, 2), (3, 44), (13, 1)])
def test_every_network_gives_one_score_per_class_and_pixel(encoder: str, bands: int, classes: int) -> None:
    network = make_unet(
        encoder=encoder, bands=bands, classes=classes, decoder_channels=(8, 8, 8, 8, 8)
    ).eval()
    with torch.inference_mode():
        scores = network(torch.randn(2, bands, 64, 96))
    assert scores.shape == (2, classes, 64, 96)
    assert scores.isfinite().all()
    with pytest.raises(ExpertError, match=r"65 x 40 px, but needs multiples of 32: pad to 96 x 64 px"):
        network(torch.zeros(1, bands, 65, 40))
    with pytest.raises(ExpertError, match=rf"needs \(batch, {bands} bands, rows, cols\)"):
        network(torch.zeros(1, bands + 1, 64, 64))
    assert network.stride == 32


def test_an_unknown_encoder_is_told_the_nearest_names() -> None:
    with pytest.raises(ExpertError, match=r"Unknown encoder 'resnet5O': did you mean resnet50"):
        make_unet(encoder="resnet5O", bands=3, classes=2)


@pytest.mark.parametrize("name", ["hf-hub:stranger/model", "local-dir:/tmp", "../resnet18", "timm/resnet18"])
def test_an_encoder_name_cannot_point_to_a_file_or_a_server(name: str) -> None:
    with pytest.raises(ExpertError, match="Unknown encoder"):
        encoder_name(name)


def test_names_of_timm_work_with_and_without_prefix_and_tag() -> None:
    assert encoder_name("convnext_tiny") == encoder_name("tu-convnext_tiny") == "tu-convnext_tiny"
    assert encoder_name("convnext_tiny.in12k") == "tu-convnext_tiny.in12k"
    assert encoder_name("resnet50") == "resnet50"


def test_an_encoder_without_a_pyramid_is_refused() -> None:
    with pytest.raises(ExpertError, match=r"'vit_tiny_patch16_224' cannot carry a U-Net"):
        make_unet(encoder="vit_tiny_patch16_224", bands=3, classes=2)


def test_an_encoder_for_one_size_says_so_in_one_line() -> None:
    network = make_unet(encoder="swinv2_cr_tiny_ns_224", bands=3, classes=2)
    with pytest.raises(ExpertError, match=r"does not take 64 x 96 px .* Take one for any size"):
        network(torch.zeros(1, 3, 64, 96))


def test_a_network_without_bands_is_refused() -> None:
    with pytest.raises(ExpertError, match="needs 1 band or more"):
        make_unet(bands=0, classes=2)


def test_the_small_decoder_is_smaller_at_every_stage() -> None:
    assert all(small <= full for small, full in zip(SMALL_DECODER_CHANNELS, DECODER_CHANNELS, strict=True))


# ---- pretrained weights -------------------------------------------------------------------------------


def donor(encoder: str = "resnet18") -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return make_unet(encoder=encoder, bands=3, classes=2).encoder.state_dict()


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "module.backbone.encoder."])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_of_a_local_file_are_found_under_any_prefix(tmp_path: Path, prefix: str, suffix: str) -> None:
    tensors = {prefix + name: tensor for name, tensor in donor().items()} | {"fc.weight": torch.zeros(5, 5)}
    file = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"epoch": 3, "state_dict": tensors}, file)
    else:
        save_file(tensors, file)
    torch.manual_seed(4)
    network = make_unet(encoder="resnet18", bands=3, classes=7, weights=file)
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, tensors[prefix + name])


def test_weights_of_timm_fit_smps_wrapper_around_it(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(5)
    plain = timm.create_model("convnext_atto", pretrained=False, in_chans=3)
    save_file(plain.state_dict(), tmp_path / "w.safetensors")
    network = make_unet(encoder="convnext_atto", bands=3, classes=2, weights=tmp_path / "w.safetensors")
    assert torch.equal(
        network.encoder.state_dict()["model.stem_0.weight"], plain.state_dict()["stem.0.weight"]
    )


def test_the_report_names_what_found_no_place(caplog: pytest.LogCaptureFixture) -> None:
    network = make_unet(encoder="resnet18", bands=6, classes=2)
    tensors = donor() | {"fc.weight": torch.zeros(5, 5)}
    with caplog.at_level(logging.INFO, logger="tesela"):
        report = load_encoder_weights(network.encoder, tensors, source="donor")
    assert report.unexpected == ("fc.weight",)
    assert report.adapted == ("conv1.weight",)
    assert report.loaded == len(tensors) - 1
    assert "fc.weight" in caplog.text


@pytest.mark.parametrize("bands", [1, 2, 3, 6, 7])
def test_the_first_convolution_answers_alike_when_all_bands_are_equal(bands: int) -> None:
    weight = donor()["conv1.weight"]
    grey = torch.full((64, 3, 7, 7), 1.0)
    assert torch.equal(spread_bands(weight, bands=3), weight)
    assert torch.allclose(spread_bands(grey, bands=bands).sum(1), grey.sum(1))


@pytest.mark.parametrize("bands", [1, 2, 5])
def test_weights_of_a_file_and_by_name_spread_over_bands_alike(bands: int) -> None:
    from segmentation_models_pytorch.encoders._utils import patch_first_conv

    conv = torch.nn.Conv2d(3, 8, 3, bias=False)
    ours = spread_bands(conv.weight.detach().clone(), bands=bands)
    patch_first_conv(conv, bands, pretrained=True)
    assert torch.allclose(conv.weight, ours)


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    save_file(donor("resnet18"), tmp_path / "w.safetensors")
    with pytest.raises(ExpertError, match=r"tensors of the encoder are missing .* Name the encoder"):
        make_unet(encoder="resnet34", bands=3, classes=2, weights=tmp_path / "w.safetensors")


def test_weights_of_another_width_are_refused() -> None:
    tensors = donor()
    tensors["layer1.0.conv1.weight"] = torch.zeros(9, 9, 3, 3)
    with pytest.raises(
        ExpertError, match=r"layer1.0.conv1.weight has shape \(9, 9, 3, 3\), but the encoder needs"
    ):
        load_encoder_weights(
            make_unet(encoder="resnet18", bands=3, classes=2).encoder, tensors, source="donor"
        )


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("exploded",))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, dump in enumerate(
        (torch.save, lambda item, file: Path(file).write_bytes(pickle.dumps(item)))
    ):
        file = tmp_path / f"{number}.pth"
        dump({"w": Bomb()}, file)
        with pytest.raises(ExpertError, match="runs no code from files"):
            make_unet(encoder="resnet18", bands=3, classes=2, weights=file)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such file"), (b"nonsense", "runs no code|not a whole")]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_missing_or_broken_file_of_weights_is_one_line(
    tmp_path: Path, content: bytes | None, message: str, suffix: str
) -> None:
    file = tmp_path / f"w{suffix}"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ExpertError, match=message) as caught:
        make_unet(encoder="resnet18", bands=3, classes=2, weights=file)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_of_weights_lists_what_there_is() -> None:
    with pytest.raises(ExpertError, match=r"encoder 'resnet18' has imagenet, ssl, swsl, .* by name"):
        make_unet(encoder="resnet18", bands=3, classes=2, weights="imagenette")
    with pytest.raises(ExpertError, match="encoders of timm have 'imagenet'"):
        make_unet(encoder="convnext_atto", bands=3, classes=2, weights="swsl")


# ---- the expert file ----------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_loaded(path: Path, expert: Expert) -> None:
    again = open_expert(path)
    images = torch.randn(1, 4, 32, 64)
    assert again.header == HEADER
    assert again.header.legend.address == "tree-2"
    with torch.inference_mode():
        assert torch.equal(again.network(images), expert.network(images))
    assert not again.network.training


def test_an_encoder_that_computes_while_it_is_built_is_loaded_too(tmp_path: Path) -> None:
    header = replace(HEADER, architecture=replace(HEADER.architecture, encoder="mit_b0"))
    made = Expert(header, header.architecture.build().eval())
    again = open_expert(save_expert(tmp_path / "a.safetensors", made))
    images = torch.randn(1, 4, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again.network(images), made.network(images))


def test_a_legend_cut_at_a_coarse_level_keeps_its_address(tmp_path: Path) -> None:
    header = replace(HEADER, legend=TREE.level(1), architecture=replace(HEADER.architecture, classes=2))
    save_expert(tmp_path / "a.safetensors", Expert(header, header.architecture.build()))
    assert read_header(tmp_path / "a.safetensors").legend == TREE.level(1)
    assert read_header(tmp_path / "a.safetensors").legend.address == "tree-1"


def test_the_same_content_gives_the_same_bytes_and_nothing_else_in_the_folder(
    path: Path, expert: Expert
) -> None:
    first = path.read_bytes()
    save_expert(path, open_expert(path))
    assert path.read_bytes() == first
    save_expert(path, replace(expert, network=expert.network.to(memory_format=torch.channels_last)))
    assert path.read_bytes() == first
    assert [item.name for item in path.parent.iterdir()] == ["a.safetensors"]


def test_a_header_is_read_without_torch(path: Path) -> None:
    code = (
        "import sys\nfrom tesela.models import read_header\n"
        f"print(read_header({str(path)!r}).bands, 'torch' in sys.modules, 'safetensors' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('B02', 'B03', 'B04', 'B08') False False"


def test_scaling_is_mean_and_deviation_with_nodata_at_the_mean(expert: Expert) -> None:
    images = np.broadcast_to(np.array([0.1, 0.22, 0.36, 0.32], np.float32)[:, None, None], (4, 2, 3)).copy()
    images[1, 0, 0], images[2, 1, 2] = np.nan, np.inf
    scaled = expert.scaled(images)
    assert scaled.dtype == np.float32
    assert scaled[1, 0, 0] == scaled[2, 1, 2] == 0
    np.testing.assert_allclose(scaled[:, 0, 1], [0, 1, 2, -2], atol=1e-5)
    with pytest.raises(ExpertError, match=r"needs \(..., 4 bands, rows, cols\): B02, B03, B04, B08"):
        expert.scaled(images[:3])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_truncated_expert_is_refused_before_its_tensors(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (read_header, open_expert):
        with pytest.raises(ExpertError, match=r"a\.safetensors: is (truncated|not an expert)"):
            read(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04 zip", b"\x80\x04.", b"\xff" * 64, (10).to_bytes(8, "little") + b"[1, 2, 3] "],
)
def test_a_file_of_another_kind_is_no_expert(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ExpertError, match="is not an expert"):
        open_expert(tmp_path / "x.safetensors")


def test_weights_without_a_header_are_no_expert(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ExpertError, match="holds weights but no header"):
        open_expert(tmp_path / "w.safetensors")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ExpertError, match=r"none\.safetensors: cannot be opened \(No such file"):
        open_expert(tmp_path / "none.safetensors")


def test_missing_and_strange_tensors_are_named(path: Path) -> None:
    tensors = load_file(path)
    tensors["spy"] = tensors.pop("head.0.bias")
    save_file(tensors, path, metadata={"tesela": json.dumps(HEADER.to_dict())})
    with pytest.raises(ExpertError, match=r"missing: head\.0\.bias; unexpected: spy"):
        open_expert(path)


def test_a_tensor_of_another_shape_is_named(path: Path) -> None:
    tensors = load_file(path)
    tensors["head.0.bias"] = torch.zeros(4)
    save_file(tensors, path, metadata={"tesela": json.dumps(HEADER.to_dict())})
    with pytest.raises(
        ExpertError, match=r"head\.0\.bias has shape \(4,\), but its architecture needs \(3,\)"
    ):
        open_expert(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"format is 2, but this Tesela reads up to 1: update"),
        ({"format": "x"}, r"format is x"),
        ({"bands": ["a"]}, r"1 bands, 4 means"),
        ({"bands": "B02"}, r"'B02' was given, a list was needed"),
        ({"mean": [0, 0, 0, "x"]}, r"could not convert"),
        ({"std": [1, 1, 1, 0]}, r"finite, the latter above 0"),
        ({"std": [1, 1, 1, float("inf")]}, r"finite, the latter above 0"),
        ({"legend": {"name": "x", "levels": 1, "rows": []}}, r"its legend has no classes"),
        ({"legend": {"name": "x"}}, r"lacks 'rows'"),
        ({"architecture": {"kind": "unett"}}, r"Unknown architecture 'unett': did you mean 'unet'"),
        ({"architecture": 3}, r"architecture is 3"),
        (
            {"architecture": HEADER.architecture.to_dict() | {"decoder_channels": [10**9] * 5}},
            r"decoder_channels is 1000000000, a whole number from 1 to 2048",
        ),
        (
            {"architecture": HEADER.architecture.to_dict() | {"bands": True}},
            r"bands is True, a whole number from 1 to 2048",
        ),
        (
            {"architecture": HEADER.architecture.to_dict() | {"classes": 4}},
            r"the network has 4 classes, legend 'tree-2' 3",
        ),
        ({"provenance": None}, r"a table was needed"),
        ({"patch_size_px": -1}, r"must be positive"),
    ],
)
def test_a_wrong_header_says_what_is_wrong(path: Path, change: dict[str, object], message: str) -> None:
    rewrite(path, change)
    for read in (read_header, open_expert):
        with pytest.raises(ExpertError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(path))


def test_a_header_that_asks_for_a_giant_network_allocates_nothing(path: Path) -> None:
    giant = {"kind": "unet", "bands": 4, "classes": 3, "encoder": TINY, "decoder_channels": [2048] * 5}
    rewrite(path, {"architecture": giant})  # a gigabyte of weights
    with pytest.raises(ExpertError, match="but its architecture needs"):
        open_expert(path)


def test_an_encoder_of_a_stranger_that_names_a_server_is_refused(path: Path) -> None:
    rewrite(path, {"architecture": HEADER.architecture.to_dict() | {"encoder": "hf-hub:stranger/model"}})
    with pytest.raises(ExpertError, match=r"a\.safetensors: Unknown encoder 'hf-hub:stranger/model'"):
        open_expert(path)


def test_an_expert_that_cannot_be_written_leaves_the_old_one(path: Path, expert: Expert) -> None:
    before = path.read_bytes()
    with pytest.raises(ExpertError, match="cannot be written as JSON"):
        save_expert(path, replace(expert, header=replace(HEADER, scores={"miou": float("nan")})))
    with pytest.raises(ExpertError, match="must end in"):
        save_expert(path.with_suffix(".pth"), expert)
    (path.parent / "file").write_text("in the way")
    with pytest.raises(ExpertError, match="cannot be written"):
        save_expert(path.parent / "file" / "a.safetensors", expert)
    assert path.read_bytes() == before
    assert sorted(item.name for item in path.parent.iterdir()) == ["a.safetensors", "file"]
