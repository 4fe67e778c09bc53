"""The network against what the official one computes, to the rounding of float32, and how it may be called."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r import PairNetwork, build_network

TOLERANCE = {
    "pts3d": 1e-4,
    "conf": 1e-4,
    "pts3d_in_other_view": 1e-4,
    "conf2": 1e-4,
    "dynamic_mask1": 1e-5,
    "dynamic_mask2": 1e-5,
}
"""Largest differences allowed, absolute and relative; float32 alone accounts for 5e-5 and 2e-6."""

SIZES = {"land": (48, 64), "port": (64, 48), "square": (64, 64), "sym": (48, 64)}
PAIRS = {"land": ((0,), (1,)), "port": ((2,), (3,)), "square": ((6,), (7,))}


def assert_close(name: str, mine: Tensor, official: np.ndarray) -> None:
    tolerance = TOLERANCE.get(name.rsplit(".", 1)[-1], 1e-4)
    np.testing.assert_allclose(mine.numpy(), official, rtol=tolerance, atol=tolerance, err_msg=name)


def assert_outputs(mine: dict[str, Tensor], official: dict[str, np.ndarray], tag: str) -> None:
    assert list(mine) == list(TOLERANCE)
    for name, value in mine.items():
        assert value.dtype == torch.float32
        assert_close(f"{tag}.{name}", value, official[f"{tag}.{name}"])


@pytest.mark.parametrize("tag", PAIRS)
def test_gives_the_official_outputs(
    tag: str, tiny: PairNetwork, forward: dict[str, np.ndarray], picture: Callable[..., Tensor]
) -> None:
    views = (picture(*SIZES[tag], *numbers) for numbers in PAIRS[tag])
    assert_outputs(tiny.infer_pair(*views), forward, tag)


def test_gives_the_official_outputs_of_a_symmetrised_batch(
    tiny: PairNetwork, forward: dict[str, np.ndarray], picture: Callable[..., Tensor]
) -> None:
    first, second = forward["sym.order"].T
    views = (picture(*SIZES["sym"], *numbers) for numbers in (first, second))
    assert_outputs(tiny.infer_pair(*views), forward, "sym")


def test_frames_encoded_once_serve_all_their_pairs(
    tiny: PairNetwork, forward: dict[str, np.ndarray], picture: Callable[..., Tensor]
) -> None:
    order = forward["sym.order"]
    frames = sorted(set(order.ravel().tolist()))
    tokens = tiny.encode(picture(*SIZES["sym"], *frames))
    first, second = ([frames.index(number) for number in column] for column in order.T)
    assert_outputs(tiny.decode(tokens[first], tokens[second], SIZES["sym"]), forward, "sym")


def test_gives_every_official_intermediate_result(
    tiny: PairNetwork, forward: dict[str, np.ndarray], picture: Callable[..., Tensor]
) -> None:
    seen: dict[str, Tensor] = {}

    def watch(module: nn.Module, *names: str) -> None:
        """Keep the outputs of a module, one name for each of its calls."""
        left = list(names)
        handles.append(module.register_forward_hook(lambda *call: seen.update({left.pop(0): call[2]})))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    depth = tiny.config.dec_depth
    watch(tiny.patch_embed, "patch_embed")
    watch(tiny.enc_blocks[0], "enc_block0")
    watch(tiny.enc_norm, "enc")
    for number in range(1, depth):
        watch(tiny.dec_blocks[number - 1], f"dec1_{number}")
        watch(tiny.dec_blocks2[number - 1], f"dec2_{number}")
    watch(tiny.dec_norm, f"dec1_{depth}", f"dec2_{depth}")
    watch(tiny.downstream_head1.dpt, "head1_raw")
    watch(tiny.downstream_head_dynamic_mask1.dpt, "mask1_raw")
    try:
        tiny.infer_pair(picture(48, 64, 0), picture(48, 64, 1))
    finally:
        for handle in handles:
            handle.remove()
    # Both frames go through the encoder as one batch.
    seen["patch_embed1"] = seen.pop("patch_embed")[:1]
    seen["enc_block0_1"] = seen.pop("enc_block0")[:1]
    seen["enc1"], seen["enc2"] = seen.pop("enc").chunk(2)
    seen["dec1_0"], seen["dec2_0"] = seen["enc1"], seen["enc2"]
    seen["pos"] = torch.cartesian_prod(torch.arange(3), torch.arange(4))[None]
    official = {name[9:]: value for name, value in forward.items() if name.startswith("land.mid.")}
    assert set(seen) == set(official)
    for name, value in official.items():
        assert_close(name, seen[name], value)


def test_in_float64_it_is_the_official_network_to_the_precision_of_its_angles(
    make_network: Callable[[dict], PairNetwork],
    fill: ModuleType,
    forward: dict[str, np.ndarray],
    picture: Callable[..., Tensor],
) -> None:
    mine = make_network(fill.TINY).double().infer_pair(picture(48, 64, 0).double(), picture(48, 64, 1).double())
    for name, value in mine.items():
        np.testing.assert_allclose(value.numpy(), forward[f"land.f64.{name}"], rtol=3e-6, atol=3e-6)


def test_formula_weights_and_pictures_are_the_reference_ones(
    tiny: PairNetwork, fill: ModuleType, read_reference: Callable[[str], Any]
) -> None:
    check = read_reference("fill_check_tiny.json")
    state = tiny.state_dict()
    assert set(state) == set(check["tensors"])
    for name, value in state.items():
        assert zlib.crc32(value.numpy().tobytes()) == check["tensors"][name]["crc32"], name
    for name, expected in check["images"].items():
        number, size = name.split("_")
        height, width = (int(side) for side in size.split("x"))
        assert zlib.crc32(fill.image(int(number), height, width).tobytes()) == expected["crc32"], name


@pytest.mark.parametrize("kind", ["das3r", "monst3r", "dust3r"])
def test_full_size_state_dict_is_the_official_one(
    kind: str, fill: ModuleType, read_reference: Callable[[str], Any]
) -> None:
    official = read_reference(f"{kind}_state_dict.json")
    with torch.device("meta"):
        network = build_network({**fill.FULL, "mask_heads": kind == "das3r"})
    state = network.state_dict(keep_vars=True)
    mine = [[name, list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in state.items()]
    assert mine == official["keys"]  # the order too
    assert sum(value.numel() for value in network.parameters()) == official["n_parameters_unique"]
    for first, second in official["aliases_same_tensor"]:
        assert state[first] is state[second]


def test_without_mask_heads_the_rest_is_the_same(
    tiny: PairNetwork,
    make_network: Callable[[dict], PairNetwork],
    fill: ModuleType,
    picture: Callable[..., Tensor],
) -> None:
    views = picture(32, 48, 0), picture(32, 48, 1)
    mine, full = make_network({**fill.TINY, "mask_heads": False}).infer_pair(*views), tiny.infer_pair(*views)
    assert list(mine) == ["pts3d", "conf", "pts3d_in_other_view", "conf2"]
    for name, value in mine.items():
        torch.testing.assert_close(value, full[name], rtol=0, atol=0)


def test_stays_in_evaluation_mode_and_needs_no_gradients(tiny: PairNetwork, picture: Callable[..., Tensor]) -> None:
    tiny.train()
    assert not any(module.training for module in tiny.modules())
    out = tiny.infer_pair(picture(32, 48, 0), picture(32, 48, 1))
    assert not any(value.requires_grad for value in out.values())
    # They can stand in a loss: tensors of torch's inference mode could not.
    scale = torch.ones((), requires_grad=True)
    (scale * out["pts3d"]).sum().backward()


def test_under_autocast_points_and_confidence_are_float32(tiny: PairNetwork, picture: Callable[..., Tensor]) -> None:
    views = picture(48, 64, 0), picture(48, 64, 1)
    exact = tiny.infer_pair(*views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = tiny.infer_pair(*views)
    for name, value in out.items():
        assert value.dtype == torch.float32
        difference = (value - exact[name]).abs()
        assert 0 < difference.mean() < 0.1 * exact[name].abs().mean(), name


@pytest.mark.parametrize(("shape", "words"), [((1, 3, 50, 64), "multiples of 16"), ((3, 48, 64), "B x 3 x H x W")])
def test_refuses_pictures_it_cannot_cut_into_patches(shape: tuple[int, ...], words: str, tiny: PairNetwork) -> None:
    with pytest.raises(ValueError, match=words):
        tiny.encode(torch.zeros(shape))


def test_refuses_views_of_different_sizes(tiny: PairNetwork, picture: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="one shape"):
        tiny.infer_pair(picture(48, 64, 0), picture(64, 48, 1))
    tokens = tiny.encode(picture(48, 64, 0, 1))
    with pytest.raises(ValueError, match="B x 9 x C"):
        tiny.decode(tokens[:1], tokens[1:], (48, 48))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head_type": "linear"}, "another architecture"),
        ({"output_mode": "pts3d+desc24"}, "another architecture"),
        ({"pos_embed": "cosine"}, "another architecture"),
        ({"depth_mode": ["linear", float("-inf"), float("inf")]}, "another architecture"),
        ({"enc_depth": "24"}, "positive whole number"),
        ({"dec_num_heads": 0}, "positive whole number"),
        ({"dec_num_heads": 5}, "multiple of four times"),
    ],
)
def test_refuses_other_architectures_and_impossible_sizes(change: dict, words: str, fill: ModuleType) -> None:
    with pytest.raises(Das3rError, match=words):
        build_network({**fill.TINY, **change})


def test_takes_the_configuration_of_a_hub_folder(read_reference: Callable[[str], Any]) -> None:
    network = build_network(read_reference("hub_config_example.json"))
    assert (network.config.dec_depth, network.config.dec_embed_dim, network.config.mask_heads) == (10, 32, True)


@pytest.mark.slow
@pytest.mark.full_size
def test_full_size_takes_formula_weights_and_computes(
    fill: ModuleType, read_reference: Callable[[str], Any], picture: Callable[..., Tensor]
) -> None:
    check = read_reference("fill_check_full.json")
    with torch.device("meta"):
        network = build_network(fill.FULL)
    state = network.state_dict()
    assert set(state) == set(check)
    for name, value in state.items():
        filled = fill.fill_tensor(name, value.shape)
        crc32, total = check[name]
        assert zlib.crc32(filled.tobytes()) == crc32, name
        np.testing.assert_allclose(filled.sum(dtype=np.float64), total, rtol=1e-9, atol=1e-6)
        state[name] = torch.from_numpy(filled)
    network.load_state_dict(state, assign=True)
    out = network.infer_pair(picture(160, 224, 0), picture(160, 224, 1))
    for name, value in out.items():
        assert value.shape[:3] == (1, 160, 224) and value.isfinite().all(), name
        assert value.std() > 1e-3, name
