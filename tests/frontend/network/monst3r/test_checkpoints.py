"""Checkpoints: both containers give back the exact weights, and whatever is wrong with one is said, never run."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r import PairNetwork, build_network
from das3r_ns.frontend.network.monst3r.checkpoints import load_network, official_name

pytestmark = pytest.mark.usefixtures("small_heads")

CALL = (
    "AsymmetricCroCo3DStereo(pos_embed='RoPE100', patch_embed_cls='ManyAR_PatchEmbed', img_size=(512, 512), "
    "head_type='dpt', output_mode='pts3d', depth_mode=('exp', -inf, inf), conf_mode=('exp', 1, inf), "
    "enc_embed_dim=64, enc_depth=2, enc_num_heads=4, dec_embed_dim=48, dec_depth=12, dec_num_heads=4)"
)


def hub_folder(folder: Path, weights: dict[str, Tensor], config: dict) -> Path:
    """Write what the hub holds: one name for each tensor, and infinite limits as bare words."""
    folder.mkdir()
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    text = json.dumps(config, sort_keys=True)
    assert "-Infinity" in text
    (folder / "config.json").write_text(text)
    return folder


def without_aliases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if official_name(name) == name}


@pytest.fixture()
def small(make_network: Callable[[dict], PairNetwork], fill: ModuleType, small_heads: None) -> PairNetwork:
    """The tiny network with small heads."""
    return make_network(fill.TINY)


@pytest.fixture()
def weights(small: PairNetwork) -> dict[str, Tensor]:
    """A state dict that a test may change."""
    return dict(small.state_dict())


@pytest.fixture()
def save_pth(tmp_path: Path) -> Callable[..., Path]:
    """Writes a .pth file; ``model`` and further entries are named."""

    def save(model: object, args: object = None, **more: object) -> Path:
        path = tmp_path / "checkpoint.pth"
        torch.save({"args": args or argparse.Namespace(model=CALL, lr=1e-4), "model": model, **more}, path)
        return path

    return save


def assert_same_weights(first: PairNetwork, second: PairNetwork) -> None:
    mine, other = first.state_dict(), second.state_dict()
    assert list(mine) == list(other)
    for name, value in mine.items():
        assert value.dtype == torch.float32 and torch.equal(value, other[name]), name


def refusal(path: Path) -> str:
    """The paragraph with which a checkpoint is refused."""
    with pytest.raises(Das3rError) as caught:
        load_network(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_hub_folder_without_aliases(
    tmp_path: Path, weights: dict[str, Tensor], small: PairNetwork, fill: ModuleType, picture: Callable[..., Tensor]
) -> None:
    unique = without_aliases(weights)
    assert len(unique) == len(weights) - 16
    folder = hub_folder(tmp_path / "hub", unique, {**fill.TINY, "freeze": "encoder_and_3d_predictor", "vn_layer": True})
    for path in (folder, folder / "model.safetensors"):
        network = load_network(path)
        assert_same_weights(network, small)
    assert not network.training
    views = picture(32, 48, 0), picture(32, 48, 1)
    for name, value in network.infer_pair(*views).items():
        assert torch.equal(value, small.infer_pair(*views)[name])


def test_either_name_of_a_shared_weight_will_do(
    tmp_path: Path, weights: dict[str, Tensor], small: PairNetwork, fill: ModuleType
) -> None:
    other = {name: value for name, value in weights.items() if "_rn.weight" not in name}
    assert len(other) == len(weights) - 16
    assert_same_weights(load_network(hub_folder(tmp_path / "hub", other, fill.TINY)), small)


def test_pth_takes_its_sizes_from_shapes_and_arguments(
    weights: dict[str, Tensor], small: PairNetwork, save_pth: Callable[..., Path]
) -> None:
    network = load_network(save_pth(weights, optimizer={"state": {0: torch.zeros(2)}}, epoch=3, best_so_far=0.5))
    assert network.config == small.config
    assert_same_weights(network, small)


def test_old_pth_files_load(tmp_path: Path, weights: dict[str, Tensor], small: PairNetwork) -> None:
    path = tmp_path / "old.pth"
    torch.save({"args": argparse.Namespace(model=CALL), "model": weights}, path, _use_new_zipfile_serialization=False)
    assert_same_weights(load_network(path), small)


def test_pth_without_readable_arguments_has_heads_of_64_channels(
    fill: ModuleType, save_pth: Callable[..., Path]
) -> None:
    config = {**fill.TINY, "enc_embed_dim": 128, "enc_num_heads": 2, "dec_embed_dim": 64, "dec_num_heads": 1}
    network = build_network(config)
    for call in ("", "__import__('os').system('true')", "f(", "[1, 2]", "f(**g(), *h(), enc_num_heads=k())"):
        loaded = load_network(save_pth(network.state_dict(), argparse.Namespace(model=call)))
        assert loaded.config == network.config, call


def test_without_mask_heads(
    tmp_path: Path, weights: dict[str, Tensor], fill: ModuleType, save_pth: Callable[..., Path]
) -> None:
    bare = {name: value for name, value in weights.items() if "dynamic_mask" not in name}
    for path in (save_pth(bare), hub_folder(tmp_path / "hub", without_aliases(bare), fill.TINY)):
        assert not load_network(path).config.mask_heads


def test_lists_missing_surplus_and_misshapen_weights(weights: dict[str, Tensor], save_pth: Callable[..., Path]) -> None:
    del weights["enc_norm.bias"], weights["dec_blocks2.3.norm_y.weight"]
    weights["prediction_head.weight"] = torch.zeros(2)
    weights["decoder_embed.bias"] = torch.zeros(7)
    message = refusal(save_pth(weights))
    assert "missing (2): enc_norm.bias, dec_blocks2.3.norm_y.weight;" in message
    assert "surplus (1): prediction_head.weight;" in message
    assert "of another shape (1): decoder_embed.bias (7 where 48 belongs)." in message


def test_a_shared_weight_that_is_missing_is_named_once(
    weights: dict[str, Tensor], save_pth: Callable[..., Path]
) -> None:
    gone = "downstream_head1.dpt.scratch.layer2_rn.weight"
    for name in [name for name in weights if official_name(name) == gone]:
        del weights[name]
    assert f"missing (1): {gone}." in refusal(save_pth(weights))


def test_many_faults_are_counted(weights: dict[str, Tensor], save_pth: Callable[..., Path]) -> None:
    message = refusal(save_pth({name: value for name, value in weights.items() if "enc_blocks" not in name}))
    assert "missing (" in message and " more" in message and len(message) < 2000


def test_refuses_two_different_tensors_for_one_weight(
    weights: dict[str, Tensor], save_pth: Callable[..., Path]
) -> None:
    name = "downstream_head2.dpt.scratch.layer_rn.2.weight"
    weights[name] = weights[name] + 1.0
    assert "two different tensors" in refusal(save_pth(weights))


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "not finite (1): enc_norm.weight"), (None, "not made of decimal numbers (1): enc_norm.weight")],
)
def test_refuses_weights_that_cannot_be(
    value: float | None, words: str, weights: dict[str, Tensor], save_pth: Callable[..., Path]
) -> None:
    old = weights["enc_norm.weight"]
    weights["enc_norm.weight"] = old.long() if value is None else torch.full_like(old, value)
    assert words in refusal(save_pth(weights))


def test_refuses_another_architecture(
    tmp_path: Path, weights: dict[str, Tensor], fill: ModuleType, save_pth: Callable[..., Path]
) -> None:
    message = refusal(save_pth({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)}))
    assert "another architecture" in message and "conv1.weight, fc.bias" in message
    matching = hub_folder(tmp_path / "hub", without_aliases(weights), {**fill.TINY, "output_mode": "pts3d+desc24"})
    assert "output_mode" in refusal(matching)
    call = CALL.replace("head_type='dpt'", "head_type='linear'")
    assert "head_type" in refusal(save_pth(weights, argparse.Namespace(model=call)))


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["args", "model", "more", "inside Namespace", "bare pickle"])
def test_refuses_pickled_objects_by_name_and_does_not_make_them(
    place: str, tmp_path: Path, weights: dict[str, Tensor], save_pth: Callable[..., Path]
) -> None:
    target = tmp_path / "planted"
    planted = Planted(target)
    if place == "args":
        path = save_pth(weights, planted)
    elif place == "model":
        path = save_pth({**weights, "enc_norm.bias": planted})
    elif place == "more":
        path = save_pth(weights, optimizer=[planted])
    elif place == "inside Namespace":
        path = save_pth(weights, argparse.Namespace(model=CALL, output_dir=planted))
    else:
        path = tmp_path / "checkpoint.pth"
        path.write_bytes(pickle.dumps({"model": planted}, protocol=2))
    message = refusal(path)
    assert f"{os.name}.mkdir" in message
    assert not target.exists()


def test_refuses_harmless_looking_classes_too(weights: dict[str, Tensor], save_pth: Callable[..., Path]) -> None:
    message = refusal(save_pth(weights, argparse.Namespace(model=CALL, started=argparse.ArgumentTypeError("x"))))
    assert "argparse.ArgumentTypeError" in message


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.001, 0.0])
def test_refuses_truncated_files(
    kept: float, tmp_path: Path, weights: dict[str, Tensor], fill: ModuleType, save_pth: Callable[..., Path]
) -> None:
    pth, folder = save_pth(weights), hub_folder(tmp_path / "hub", without_aliases(weights), fill.TINY)
    for file in (pth, folder / "model.safetensors"):
        content = file.read_bytes()
        file.write_bytes(content[: int(kept * len(content))])
        message = refusal(file)
        assert "cut short" in message or "damaged" in message
        assert "das3r weights --download" in message


@pytest.mark.parametrize("content", [b"hello world, this is no checkpoint at all", b"PK\x03\x04", bytes(1000)])
def test_refuses_foreign_files(content: bytes, tmp_path: Path, fill: ModuleType) -> None:
    path = tmp_path / "foreign.pth"
    path.write_bytes(content)
    assert "das3r weights --download" in refusal(path)
    folder = hub_folder(tmp_path / "hub", {"a": torch.zeros(1)}, fill.TINY)
    (folder / "model.safetensors").write_bytes(content)
    assert "not a safetensors file" in refusal(folder)


def test_refuses_a_pth_that_may_not_be_read(
    weights: dict[str, Tensor], save_pth: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = save_pth(weights)
    monkeypatch.setattr(Path, "open", denied)
    assert "cannot be read" in refusal(path)


def test_refuses_a_zip_that_torch_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    path = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "folder")).rename(tmp_path / "z.pth")
    assert "not a checkpoint" in refusal(path)


def test_refuses_a_pth_without_a_model(tmp_path: Path, save_pth: Callable[..., Path]) -> None:
    assert "'model'" in refusal(save_pth(torch.zeros(3)))
    assert "not a tensor" in refusal(save_pth({"enc_norm.bias": [1, 2]}))
    path = tmp_path / "list.pth"
    torch.save([torch.zeros(1)], path)
    assert "'model'" in refusal(path)


def test_names_what_a_folder_lacks(tmp_path: Path, weights: dict[str, Tensor], fill: ModuleType) -> None:
    folder = hub_folder(tmp_path / "hub", without_aliases(weights), fill.TINY)
    config = (folder / "config.json").read_text()
    for content, words in ((config[:50], "cannot be read"), ("[]", "not the configuration")):
        (folder / "config.json").write_text(content)
        assert words in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json is missing" in refusal(folder)
    assert "does not exist" in refusal(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    assert "ends in .txt" in refusal(tmp_path / "notes.txt")
