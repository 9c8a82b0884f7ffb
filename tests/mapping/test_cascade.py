"""Cascades: the tree, its legend, covers of gate masks, shared backbones, the map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pointwise import Pointwise, make_expert, read_map, write_scene
from tesela.core.errors import RecipeError
from tesela.core.legend import LandClass, Legend
from tesela.io.maps import open_map
from tesela.io.scenes import open_scene
from tesela.mapping.cascade import Cascade, Gate, Member, open_cascade
from tesela.mapping.cascade_groups import share_backbones
from tesela.mapping.cascade_map import predict_cascade
from tesela.mapping.cascade_runner import SOFT_LEAST, CascadeRules
from tesela.mapping.engines import make_engine
from tesela.mapping.kernels import assign_child
from tesela.mapping.shared_backbone import shared_stages
from tesela.mapping.window_cover import WindowSizes, cover_mask, guess_costs, usual_costs
from tesela.mapping.windows import Footprint, Strip, WindowPlan, make_strips
from tesela.models.expert import Expert, ExpertHeader, save_expert
from tesela.models.segmentation.unet import UnetArchitecture
from tesela.verbs.experts import predict


def legend_of(name: str, *codes: str) -> Legend:
    classes = (
        LandClass(value, code, code.title(), f"#0000{value:02x}") for value, code in enumerate(codes, start=1)
    )
    return Legend(name, tuple(classes))


CONTEXT = legend_of("context", "water", "forest", "crops")
CANOPY = legend_of("canopy", "tree", "other")
SPECIES = legend_of("species", "pine", "oak", "other")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


class Aligned(Pointwise):
    """Looks at one pixel, but wants sides of multiples of 32."""

    stride = 32

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__(2, classes)
        generator = torch.Generator().manual_seed(seed)
        self.layer.weight.data = torch.randn(self.layer.weight.shape, generator=generator)


def expert_of(legend: Legend, seed: int) -> Expert:
    return make_expert(Aligned(len(legend), seed), legend=legend)


def three(min_confidence: float = 0.0) -> Cascade:
    return Cascade(
        "forests",
        (
            Member("context", expert_of(CONTEXT, 1)),
            Member("canopy", expert_of(CANOPY, 2), Gate("context", ("forest",), min_confidence)),
            Member("species", expert_of(SPECIES, 3), Gate("canopy", ("tree",))),
        ),
    )


def probabilities(image: NDArray[np.uint8], expert: Expert) -> NDArray[np.float32]:
    mean, std = (np.array(each, np.float32)[:, None, None] for each in ((100, 50), (30, 20)))
    scores = expert.network(torch.from_numpy((image.astype(np.float32) - mean) / std)[None])[0]
    p: NDArray[np.float32] = torch.softmax(scores, 0).numpy()
    return p


def gated_afterwards(image: NDArray[np.uint8], cascade: Cascade) -> NDArray[np.uint8]:
    """All experts on the whole scene, then the gates."""
    context, canopy, species = (probabilities(image, member.expert) for member in cascade.members)
    gate = cascade.members[1].gate
    assert gate is not None
    values = np.array([1, 2, 3], np.uint8)[context.argmax(0)]
    forest = (values == 2) & (context.max(0) >= gate.min_confidence)
    values[forest] = np.array([4, 5], np.uint8)[canopy.argmax(0)][forest]
    tree = values == 4
    values[tree] = np.array([6, 7, 8], np.uint8)[species.argmax(0)][tree]
    return np.where((image > 0).all(0), values, 0).astype(np.uint8)


def test_every_class_has_one_value_and_occurs_at_every_finer_level() -> None:
    legend = three().legend
    assert legend.codes == ("water", "forest", "crops", "tree", "other", "pine", "oak", "tree.other")
    assert legend.values == (1, 2, 3, 4, 5, 6, 7, 8)
    assert legend.level(1).codes == ("water", "forest", "crops")
    assert legend.level(2).codes == ("water", "forest", "crops", "tree", "other")
    assert [item.parent for item in legend.level(2).classes] == [
        "water",
        "forest",
        "crops",
        "forest",
        "forest",
    ]
    table = legend.level_table(1)
    assert table[[1, 2, 3, 4, 5, 6, 7, 8]].tolist() == [1, 2, 3, 2, 2, 2, 2, 2]


def test_a_class_below_two_others_is_two_classes() -> None:
    gate = Gate("context", ("forest", "crops"))
    cascade = Cascade(
        "two", (Member("context", expert_of(CONTEXT, 1)), Member("canopy", expert_of(CANOPY, 2), gate))
    )
    assert cascade.legend.codes[3:] == ("tree", "other", "crops.tree", "crops.other")
    table = cascade.values(cascade.members[1])
    assert table[2].tolist() == [4, 5]
    assert table[3].tolist() == [6, 7]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a", None), ("b", None)], "expert 'b' has no parent"),
        ([("a", Gate("z", ("forest",)))], "first expert must have no gate"),
        ([("a", None), ("b", Gate("c", ("forest",)))], "parent 'c', which is none of the experts before it"),
        ([("a", None), ("b", Gate("a", ("forrest",)))], "did you mean 'forest'"),
        ([("a", None), ("a", Gate("a", ("forest",)))], "two experts have the name 'a'"),
        ([("a", None), ("b", Gate("a", ("water",))), ("c", Gate("a", ("water",)))], "gates of two experts"),
    ],
)
def test_experts_that_form_no_tree_are_refused(members: list[tuple[str, Gate | None]], message: str) -> None:
    expert = expert_of(CONTEXT, 1)
    with pytest.raises(RecipeError, match=message):
        Cascade("wrong", tuple(Member(name, expert, gate) for name, gate in members))


def test_all_mistakes_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "cascade.toml").write_text(
        'name = "x"\nother = 1\n[[experts]]\npath = "a.safetensors"\n[[experts]]\nname = "b"\nclases = ["forest"]\n'
    )
    with pytest.raises(
        RecipeError, match=r"other.*expert 2: Unknown key 'clases': did you mean 'classes'.*no path"
    ):
        open_cascade(tmp_path)
    with pytest.raises(RecipeError, match=r"cascade.toml: cannot be read"):
        open_cascade(tmp_path / "nothing" / "cascade.toml")


@pytest.mark.parametrize("levels", [False, True])
def test_a_cascade_equals_its_gates_applied_afterwards(tmp_path: Path, levels: bool) -> None:
    image = write_scene(tmp_path / "scene.tif", (700, 500), nodata_cols=5)
    cascade = three(min_confidence=0.5)
    made = predict_cascade(
        cascade,
        open_scene(tmp_path / "scene.tif"),
        tmp_path / "map.tif",
        window_px=320,
        rules=CascadeRules(isolated_px=0),
        engine="torch",
        precision="fp32",
        memory=1_000_000,
        levels=levels,
        confidence=tmp_path / "confidence.tif",
    )
    expected = gated_afterwards(image, cascade)
    assert (read_map(tmp_path / "map.tif") == expected).all()
    assert made.map.legend == cascade.legend
    assert open_map(tmp_path / "map.tif").legend == cascade.legend
    assert made.tally.gated["canopy"] > 0
    assert not made.tally.isolated["canopy"]
    assert (tmp_path / "map_level1.tif").exists() == levels
    if levels:
        assert (read_map(tmp_path / "map_level1.tif") == cascade.legend.level_table(1)[expected]).all()
        assert (read_map(tmp_path / "map_level2.tif") == cascade.legend.level_table(2)[expected]).all()
    context = probabilities(image, cascade.members[0].expert).max(0)
    confidence = read_map(tmp_path / "confidence.tif")
    water = expected == 1
    assert np.abs(confidence[water] - 100 * context[water]).max() <= 0.51
    assert (confidence[expected == 0] == 255).all()


def test_confidence_is_the_product_of_the_probabilities_on_the_way() -> None:
    scores = np.log(np.array([[[3.0, 1.0], [1.0, 1.0]]], np.float32))  # probabilities 0.75 and 0.5
    table = np.zeros((256, 2), np.uint8)
    table[7] = (70, 71)
    values, confidence = np.full((1, 2), 7, np.uint8), np.full((1, 2), 0.5, np.float32)
    assign_child(scores, (0, 0), np.array([[True, False]]), table, values, confidence)
    assert values.tolist() == [[70, 7]]
    assert confidence == pytest.approx(np.array([[0.375, 0.5]]))


def test_soft_mode_takes_the_most_probable_product(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (300, 200))
    cascade = three()
    rules = CascadeRules(soft=True, isolated_px=0)
    predict_cascade(
        cascade,
        open_scene(tmp_path / "scene.tif"),
        tmp_path / "map.tif",
        window_px=160,
        rules=rules,
        precision="fp32",
    )
    context, canopy, species = (probabilities(image, member.expert) for member in cascade.members)
    least = np.float32(SOFT_LEAST)
    forest = context[1]
    forest_gate = forest >= least
    tree = np.where(forest_gate, forest * canopy[0], 0)
    tree_gate = tree >= least
    products = np.zeros((9, 300, 200), np.float32)
    products[1], products[3] = context[0], context[2]
    products[2] = np.where(forest_gate, 0, forest)
    products[4] = np.where(tree_gate, 0, tree)
    products[5] = np.where(forest_gate, forest * canopy[1], 0)
    products[6:9] = np.where(tree_gate, tree * species, 0)
    values = read_map(tmp_path / "map.tif")
    top_two = np.sort(products, axis=0)[-2:]
    clear = top_two[1] - top_two[0] > 1e-5
    assert clear.mean() > 0.99
    assert (values == products.argmax(0))[clear].all()


def test_isolated_pixels_keep_the_class_above_and_are_counted(tmp_path: Path) -> None:
    image = write_scene(tmp_path / "scene.tif", (640, 640))
    image[:] = 1
    cascade = three()
    context = probabilities(
        np.repeat(np.arange(1, 255, dtype=np.uint8)[None], 2, 0)[:, None], cascade.members[0].expert
    )
    classes = context[:, 0].argmax(0)
    forest, other = int(np.flatnonzero(classes == 1)[0]) + 1, int(np.flatnonzero(classes != 1)[0]) + 1
    image[:] = other
    image[:, 100, 100:103] = forest  # three pixels alone
    image[:, 400:440, 400:440] = forest
    with rasterio.open(tmp_path / "scene.tif", "r+") as data:
        data.write(image)
    made = predict_cascade(
        cascade,
        open_scene(tmp_path / "scene.tif"),
        tmp_path / "map.tif",
        window_px=320,
        overlap_px=32,
        precision="fp32",
    )
    expected = gated_afterwards(image, cascade)
    expected[100, 100:103] = 2
    assert (read_map(tmp_path / "map.tif") == expected).all()
    assert made.tally.isolated["canopy"] == 3
    assert made.tally.gated["canopy"] == 1603
    small = sum(count for name, count in made.tally.windows.items() if name.startswith("canopy"))
    assert small <= 4


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(40, 1500), st.integers(40, 1500)),
    window=st.sampled_from([320, 576, 1088]),
    seed=st.integers(0, 1000),
    patches=st.integers(0, 12),
)
def test_a_cover_holds_every_gated_pixel_once_and_costs_no_more_than_any_fixed_size(
    shape: tuple[int, int], window: int, seed: int, patches: int
) -> None:
    plan = WindowPlan.fit(shape, window_px=window, margin_px=32, multiple_px=32)
    sizes = WindowSizes.of(plan, multiple_px=32)
    costs = guess_costs(sizes)
    random = np.random.default_rng(seed)
    gated = np.zeros(shape, np.bool_)
    for _ in range(patches):
        row, col = random.integers(0, shape[0]), random.integers(0, shape[1])
        gated[row : row + random.integers(1, 200), col : col + random.integers(1, 200)] = True
    footprint = Footprint(bands=1, stored_bytes=1, classes=2, layers=1, block_rows=64)
    hits = np.zeros(shape, np.int64)
    for strip in (strip for panel in make_strips(plan, footprint, memory=1 << 28) for strip in panel):
        (row, col), (rows, cols) = strip.corner, strip.shape
        mask = gated[row : row + rows, col : col + cols]
        tiles, left = cover_mask(mask, strip, sizes=sizes, costs=costs, least_px=0)
        assert left == 0
        for tile in tiles:
            hits[slice(*tile.rows), slice(*tile.cols)] += 1
            height, width = sizes.window(tile.size)
            for corner, side, kept, length in (
                (tile.corner[0], height, tile.rows, shape[0]),
                (tile.corner[1], width, tile.cols, shape[1]),
            ):
                assert corner % 32 == 0
                assert kept[0] - corner >= 32 or kept[0] == 0
                assert corner + side - kept[1] >= 32 or kept[1] == length
        spent = sum(costs[tile.size] for tile in tiles)
        assert (
            spent
            <= sum(mask[:, span.keep_start - col : span.keep_stop - col].any() for span in strip.cols) + 1e-9
        )
    assert hits.max() <= 1
    assert not (gated & (hits == 0)).any()


def one_window() -> tuple[Strip, WindowSizes]:
    """A scene of 256 x 256 px in one window, which may be cut into windows that keep 96 or 64 px."""
    plan = WindowPlan.fit((256, 256), window_px=256, margin_px=32, multiple_px=32)
    footprint = Footprint(bands=1, stored_bytes=1, classes=2, layers=1, block_rows=64)
    ((strip,),) = make_strips(plan, footprint, memory=1 << 28)
    return strip, WindowSizes.of(plan, multiple_px=32)


def test_fewer_pixels_than_the_least_get_no_window() -> None:
    strip, sizes = one_window()
    mask = np.zeros((256, 256), np.bool_)
    mask[100, 100:107] = True
    assert cover_mask(mask, strip, sizes=sizes, costs=guess_costs(sizes), least_px=8) == ([], 7)
    mask[101, 100] = True
    tiles, isolated = cover_mask(mask, strip, sizes=sizes, costs=guess_costs(sizes), least_px=8)
    assert (len(tiles), isolated) == (1, 0)
    assert tiles[0].size == len(sizes) - 1


def test_isolated_pixels_in_the_window_of_others_are_not_counted() -> None:
    strip, sizes = one_window()
    mask = np.ones((256, 256), np.bool_)
    mask[:100, :100] = False
    mask[5, 5] = True
    tiles, isolated = cover_mask(mask, strip, sizes=sizes, costs=guess_costs(sizes), least_px=8)
    assert [tile.size for tile in tiles] == [0]
    assert isolated == 0


def test_of_two_covers_of_equal_cost_the_one_of_fewer_windows_is_taken() -> None:
    strip, sizes = one_window()
    mask = np.zeros((256, 256), np.bool_)
    mask[10:20, 10:20] = mask[200:210, 200:210] = True
    costs = (1.0, 0.5, *[0.5] * (len(sizes) - 2))
    tiles, _ = cover_mask(mask, strip, sizes=sizes, costs=costs, least_px=0)
    assert [tile.size for tile in tiles] == [0]
    tiles, _ = cover_mask(mask, strip, sizes=sizes, costs=(1.01, *costs[1:]), least_px=0)
    assert [tile.size for tile in tiles] == [1, 1]


class Certain(torch.nn.Module):
    """The same probabilities at every pixel."""

    stride = 32

    def __init__(self, *p: float) -> None:
        super().__init__()
        self.register_buffer("scores", torch.log(torch.tensor(p)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = self.scores
        assert isinstance(scores, torch.Tensor)
        return scores[None, :, None, None].expand(len(images), -1, *images.shape[2:])


@pytest.mark.parametrize(
    ("soft", "min_confidence", "value", "confidence"),
    [
        (False, 0.5, 5, 38),  # other: 0.5 x 0.75; a gate opens at its least confidence
        (False, 0.51, 1, 50),
        (True, 0.5, 5, 38),
        (True, 0.51, 1, 50),
        (True, 0.0, 5, 38),  # 0.1 by default
    ],
)
def test_a_gate_opens_from_its_least_confidence_on_and_confidence_multiplies(
    tmp_path: Path, soft: bool, min_confidence: float, value: int, confidence: int
) -> None:
    write_scene(tmp_path / "scene.tif", (40, 40))
    gate = Gate("context", ("water",), min_confidence)
    cascade = Cascade(
        "certain",
        (
            Member("context", make_expert(Certain(0.5, 0.25, 0.25), legend=CONTEXT)),
            Member("canopy", make_expert(Certain(0.25, 0.75), legend=CANOPY), gate),
        ),
    )
    predict_cascade(
        cascade,
        open_scene(tmp_path / "scene.tif"),
        tmp_path / "map.tif",
        precision="fp32",
        rules=CascadeRules(soft=soft),
        confidence=tmp_path / "confidence.tif",
    )
    assert np.unique(read_map(tmp_path / "map.tif")).tolist() == [value]
    assert np.unique(read_map(tmp_path / "confidence.tif")).tolist() == [confidence]


def backboned(classes: int, seed: int, *, shared: torch.nn.Module | None, stages: int) -> torch.nn.Module:
    from tesela.models.segmentation.unet import make_unet

    torch.manual_seed(seed)
    network = make_unet(
        encoder="resnet18", bands=2, classes=classes, decoder_channels=(32, 16, 16, 8, 8)
    ).eval()
    for name in ("encoder", "decoder")[: stages if shared is not None else 0]:
        getattr(network, name).load_state_dict(getattr(shared, name).state_dict())
    return network.requires_grad_(False)


@pytest.mark.parametrize("stages", [0, 1, 2])
def test_a_shared_backbone_is_detected_by_its_tensors_and_changes_no_class(
    tmp_path: Path, stages: int
) -> None:
    first = backboned(3, 1, shared=None, stages=0)
    networks = [
        first,
        backboned(2, 2, shared=first, stages=stages),
        backboned(3, 3, shared=first, stages=stages),
    ]
    assert [shared_stages(first, network) for network in networks[1:]] == [stages, stages]
    experts = [
        Expert(expert_of(legend, 0).header, network)
        for legend, network in zip((CONTEXT, CANOPY, SPECIES), networks, strict=True)
    ]
    gates = (None, Gate("context", ("forest", "crops")), Gate("canopy", ("tree",)))
    names = ("context", "canopy", "species")
    members = tuple(Member(*each) for each in zip(names, experts, gates, strict=True))
    assert [len(group) for group in share_backbones(members)] == ([3] if stages else [1, 1, 1])
    cascade = Cascade("shared", members)
    write_scene(tmp_path / "scene.tif", (192, 160))
    made = predict_cascade(
        cascade,
        open_scene(tmp_path / "scene.tif"),
        tmp_path / "map.tif",
        engine="torch",
        precision="fp32",
        rules=CascadeRules(isolated_px=0),
    )
    # one window holds the whole scene, so all experts see all of it with and without a shared backbone
    image = rasterio.open(tmp_path / "scene.tif").read().astype(np.float32)
    mean, std = (np.array(each, np.float32)[:, None, None] for each in ((100, 50), (30, 20)))
    scaled = torch.from_numpy((image - mean) / std)[None]
    classes = [network(scaled)[0].argmax(0).numpy() for network in networks]
    expected = classes[0] + 1
    for above, code in ((2, 0), (3, 2)):
        gated = classes[0] + 1 == above
        expected[gated] = 4 + code + classes[1][gated]
        tree = gated & (classes[1] == 0)
        expected[tree] = cascade.values(members[2])[4 + code][classes[2][tree]]
    assert (read_map(tmp_path / "map.tif") == expected).mean() > 0.999
    assert list(made.engines) == (["context+canopy+species"] if stages else list(names))


def test_a_cascade_is_read_from_a_folder_of_experts(tmp_path: Path) -> None:
    for name, legend in (("context", CONTEXT), ("canopy", CANOPY)):
        network = backboned(len(legend), 5, shared=None, stages=0)
        header = expert_of(legend, 0).header
        architecture = UnetArchitecture(
            2, len(legend), encoder="resnet18", decoder_channels=(32, 16, 16, 8, 8)
        )
        save_expert(
            tmp_path / f"{name}.safetensors",
            Expert(ExpertHeader(**{**header.__dict__, "architecture": architecture}), network),
        )
    (tmp_path / "cascade.toml").write_text(
        '[[experts]]\npath = "context.safetensors"\n'
        '[[experts]]\npath = "canopy.safetensors"\nparent = "context"\nclasses = ["forest"]\nmin_confidence = 0.4\n'
    )
    cascade = open_cascade(tmp_path)
    assert cascade.name == tmp_path.name
    assert cascade.members[1].gate == Gate("context", ("forest",), 0.4)
    assert cascade.legend.codes == ("water", "forest", "crops", "tree", "other")


def test_an_interrupted_cascade_continues_with_the_same_bytes(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (900, 300))
    scene = open_scene(tmp_path / "scene.tif")
    settings = {"window_px": 160, "precision": "fp32"}
    whole = predict_cascade(three(), scene, tmp_path / "whole.tif", **settings)  # type: ignore[arg-type]

    def stop_half_way(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt("stop")

    with pytest.raises(KeyboardInterrupt, match="stop"):
        predict_cascade(three(), scene, tmp_path / "cut.tif", **settings, progress=stop_half_way)  # type: ignore[arg-type]
    assert not (tmp_path / "cut.tif").exists()
    made = predict_cascade(three(), scene, tmp_path / "cut.tif", **settings)  # type: ignore[arg-type]
    assert made.resumed > 0
    assert made.tally == whole.tally
    assert (tmp_path / "cut.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_costs_are_measured_once_and_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    expert = expert_of(CANOPY, 1)
    sizes = WindowSizes.of(
        WindowPlan.fit((600, 600), window_px=320, margin_px=32, multiple_px=32), multiple_px=32
    )
    engine = make_engine(expert.network, "torch-fp32")
    first = usual_costs(expert, engine, sizes)
    assert first[0] == 1
    assert len(first) == len(sizes) > 2
    monkeypatch.setattr(
        "tesela.mapping.window_cover.measure_costs", lambda *_, **__: pytest.fail("measured again")
    )
    assert usual_costs(expert, engine, sizes) == first
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setattr("tesela.mapping.window_cover.measure_costs", lambda *_, **__: (1.0, 0.5))
    assert usual_costs(expert, engine, sizes) == (1.0, 0.5)


@pytest.mark.parametrize("soft", [False, True])
def test_probabilities_of_the_finest_classes_are_those_of_the_tree(tmp_path: Path, soft: bool) -> None:
    image = write_scene(tmp_path / "scene.tif", (96, 160), nodata_cols=5)
    cascade = three()
    files = {name: tmp_path / f"{name}.tif" for name in ("confidence", "entropy", "probabilities")}
    predict_cascade(
        cascade,
        open_scene(tmp_path / "scene.tif"),
        tmp_path / "map.tif",
        rules=CascadeRules(soft=soft, isolated_px=0),
        precision="fp32",
        engine="torch",
        **files,  # type: ignore[arg-type]
    )
    context, canopy, species = (probabilities(image, member.expert) for member in cascade.members)
    forest_gate = context[1] >= SOFT_LEAST if soft else context.argmax(0) == 1
    tree = context[1] * canopy[0]
    tree_gate = forest_gate & (tree >= SOFT_LEAST if soft else canopy.argmax(0) == 0)
    wanted = np.zeros((8, *context.shape[1:]), np.float32)
    wanted[[0, 2]] = context[[0, 2]]
    wanted[1] = np.where(forest_gate, 0, context[1])
    wanted[3] = np.where(forest_gate & ~tree_gate, tree, 0)
    wanted[4] = np.where(forest_gate, context[1] * canopy[1], 0)
    wanted[5:] = np.where(tree_gate, tree * species, 0)
    assert wanted.sum(0) == pytest.approx(1, abs=1e-5)
    with rasterio.open(files["probabilities"]) as data:
        steps = data.read()
        assert data.descriptions == tuple(cascade.legend.codes)
    valid = (image > 0).all(0)
    assert (steps[:, ~valid] == 255).all()
    assert np.abs(steps[:, valid] / 254 - wanted[:, valid]).max() < 0.5 / 254 + 1e-4
    entropy = -np.where(wanted > 0, wanted * np.log(np.maximum(wanted, 1e-30)), 0).sum(0) / np.log(8)
    assert np.abs(read_map(files["entropy"])[valid] - 100 * entropy[valid]).max() < 0.51
    assert (read_map(files["entropy"])[~valid] == 255).all()
    chosen = cascade.legend.index_table[read_map(tmp_path / "map.tif")[valid]].astype(int)
    own = np.take_along_axis(wanted[:, valid], chosen[None], axis=0)[0]
    assert np.abs(read_map(files["confidence"])[valid] / 100 - own).max() < 0.006


def test_a_cascade_of_pointwise_experts_is_the_same_turned(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (300, 200))
    maps = {}
    for tta in ("none", "d4"):
        maps[tta] = tmp_path / f"{tta}.tif"
        predict_cascade(
            three(), open_scene(tmp_path / "scene.tif"), maps[tta], window_px=160, tta=tta, precision="fp32"
        )
    same = read_map(maps["none"]) == read_map(maps["d4"])
    assert same.mean() > 0.999, "but for ties in the last digit"
    with pytest.raises(RecipeError, match="Unknown augmentation 'd8'"):
        predict_cascade(three(), open_scene(tmp_path / "scene.tif"), maps["none"], tta="d8")


def test_the_verb_gives_a_cascade_all_that_it_takes(tmp_path: Path) -> None:
    write_scene(tmp_path / "scene.tif", (96, 64))
    made = predict(
        three(), tmp_path / "scene.tif", tta="d4", confidence=True, entropy=True, probabilities=True
    )
    assert list(made.layers) == ["confidence", "entropy", "probabilities"]
    assert made.to_xarray("probabilities").sizes["band"] == len(made.legend)
    with pytest.raises(RecipeError, match="A cascade takes no --blend, --prior; leave it out"):
        predict(three(), tmp_path / "scene.tif", blend="hann", prior=0.5)
