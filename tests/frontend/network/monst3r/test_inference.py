"""All pairs at once give what each pair gives by itself, from tokens that are computed once."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.network.monst3r import PairNetwork, compute
from das3r_ns.frontend.network.monst3r.compute import Compute, choose_batch, choose_compute
from das3r_ns.frontend.network.monst3r.inference import in_words, mirrors_adjacent, predict_pairs
from das3r_ns.frontend.network.monst3r.preprocessing import network_input
from das3r_ns.frontend.network.predictions import PairPredictions
from das3r_ns.frontend.pairs import make_pairs
from das3r_ns.progress import Progress

CPU = torch.device("cpu")
NAMES = {
    "points1": "pts3d",
    "points2": "pts3d_in_other_view",
    "confidence1": "conf",
    "confidence2": "conf2",
    "dynamic1": "dynamic_mask1",
}


def quiet() -> Progress:
    return Progress(Console(file=io.StringIO()))


def assert_equal_pair_by_pair(
    found: PairPredictions, network: PairNetwork, images: np.ndarray, tolerance: float
) -> None:
    views = network_input(images)
    for number, (i, j) in enumerate(found.pairs):
        alone = network.infer_pair(views[i : i + 1], views[j : j + 1])
        for name, official in NAMES.items():
            mine = getattr(found, name)
            if mine is None:
                assert official not in alone
                continue
            torch.testing.assert_close(
                mine[number].float(), alone[official][0], rtol=tolerance, atol=tolerance, msg=f"{name} of {(i, j)}"
            )


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (64, 64)], ids=["landscape", "portrait", "square"])
@pytest.mark.parametrize("batch", [0, 1, 3, 50])
def test_every_pair_is_what_it_is_alone(
    quick: PairNetwork, frames: Callable[..., np.ndarray], size: tuple[int, int], batch: int
) -> None:
    images = frames(4, *size)
    pairs = make_pairs(4, "swin-2-noncyclic")
    found = predict_pairs(quick, images, pairs, quiet(), batch_size=batch, storage=torch.float32)
    assert found.pairs == pairs and (found.num_frames, found.height, found.width) == (4, *size)
    assert_equal_pair_by_pair(found, quick, images, 5e-5)


def test_results_are_kept_in_half_precision(quick: PairNetwork, frames: Callable[..., np.ndarray]) -> None:
    images = frames(3, 48, 64)
    found = predict_pairs(quick, images, make_pairs(3), quiet())
    assert {getattr(found, name).dtype for name in NAMES} == {torch.float16}
    assert_equal_pair_by_pair(found, quick, images, 1e-3)


def test_each_frame_is_encoded_once(
    quick: PairNetwork, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = quick.encode
    monkeypatch.setattr(quick, "encode", lambda images: encoded.append(len(images)) or encode(images))
    images, tokens = frames(5, 48, 64), {}
    pairs = make_pairs(5, "complete")
    first = predict_pairs(quick, images, pairs, quiet(), tokens=tokens)
    assert sum(encoded) == 5 and len(pairs) == 20 and sorted(tokens) == [0, 1, 2, 3, 4]

    # The next window knows the frames that it shares with this one.
    later = predict_pairs(quick, images[2:], make_pairs(3), quiet(), tokens=tokens, first_frame=2)
    assert sum(encoded) == 5
    same = first.points1[pairs.index((3, 4))]
    torch.testing.assert_close(later.points1[later.pairs.index((1, 2))], same, rtol=1e-3, atol=1e-3)


def test_pairs_of_the_window_before_are_not_predicted_again(
    quick: PairNetwork, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = quick.decode
    images, pairs, progress = frames(6, 48, 64), make_pairs(4, "swin-2-noncyclic"), quiet()
    first = predict_pairs(quick, images[:4], pairs, quiet(), storage=torch.float32, first_frame=10)
    monkeypatch.setattr(quick, "decode", lambda *views, **more: decoded.append(len(views[0])) or decode(*views, **more))
    place = first.pairs.index((3, 2))
    later = predict_pairs(
        quick, images[2:], pairs, progress, storage=torch.float32, first_frame=12, earlier=first, earlier_first=10
    )
    assert sorted(later.pairs) == sorted(pairs) and later.pairs[place] == (1, 0)
    assert sum(decoded) == len(pairs) - 2
    assert later.points1.data_ptr() == first.points1.data_ptr(), "in the same memory"
    assert "4 frames, 8 directed pairs (and 2 known) of" in progress.messages[0]
    assert_equal_pair_by_pair(later, quick, images[2:], 5e-5)

    decoded.clear()
    again = predict_pairs(quick, images[2:], pairs, quiet(), storage=torch.float32, earlier=later)
    assert not decoded and again.pairs == later.pairs


def test_a_smaller_batch_is_tried_where_gpu_memory_is_short(
    quick: PairNetwork, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, pairs = frames(4, 48, 64), make_pairs(4, "complete")
    decode, fits = quick.decode, [2]

    def limited(*views: Tensor, **more: bool) -> dict[str, Tensor]:
        if len(views[0]) > fits[0]:
            raise torch.cuda.OutOfMemoryError
        return decode(*views, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(quick, "decode", limited)
    found = predict_pairs(quick, images, pairs, quiet(), batch_size=8, storage=torch.float32)
    monkeypatch.setattr(quick, "decode", decode)
    assert_equal_pair_by_pair(found, quick, images, 5e-5)
    monkeypatch.setattr(quick, "decode", limited)
    fits[0] = 0
    with pytest.raises(Das3rError, match=r"too little memory for one pair of 64 x 48 pixels.*--network-size 384"):
        predict_pairs(quick, images, pairs, quiet(), batch_size=8)


def test_frames_that_no_pair_names_are_not_encoded(quick: PairNetwork, frames: Callable[..., np.ndarray]) -> None:
    tokens: dict[int, Tensor] = {}
    predict_pairs(quick, frames(4, 48, 64), [(0, 2), (2, 0)], quiet(), tokens=tokens)
    assert sorted(tokens) == [0, 2]


def test_without_mask_heads_there_is_no_dynamic_probability(fill, make_network, frames, small_heads) -> None:
    network = make_network({**fill.TINY, "mask_heads": False})
    images = frames(2, 32, 48)
    found = predict_pairs(network, images, [(0, 1), (1, 0)], quiet())
    assert found.dynamic1 is None
    assert_equal_pair_by_pair(found, network, images, 1e-3)


def test_frames_of_mixed_sizes_are_refused_by_number(quick: PairNetwork, frames: Callable[..., np.ndarray]) -> None:
    images = [*frames(2, 48, 64), *frames(1, 64, 48)]
    with pytest.raises(Das3rError, match="Frame 2 has 48 x 64 pixels, but the first one has 64 x 48"):
        predict_pairs(quick, images, make_pairs(3), quiet())


def test_says_beforehand_what_it_will_take(quick: PairNetwork, frames: Callable[..., np.ndarray]) -> None:
    progress = quiet()
    predict_pairs(quick, frames(3, 48, 64), make_pairs(3), progress)
    (said,) = progress.messages
    assert said.startswith("Network: 3 frames, 4 directed pairs of 64 x 48 pixels, 2 at once, on cpu in float32; about")
    assert " GB of memory" in said and said.endswith("s.")
    assert set(progress.seconds) == {"Network: frames", "Network: pairs"}
    assert [in_words(seconds) for seconds in (0.2, 61, 300, 7200)] == ["1 s", "61 s", "5 minutes", "2.0 hours"]


@pytest.fixture()
def breaks_on(quick: PairNetwork, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes one number of the n-th directed pair that is decoded infinite, in 16 bits only if so asked."""

    def arrange(number: int, only_autocast: bool = False) -> None:
        decode, done = quick.decode, [0]

        def broken(*args: object, **more: object) -> dict[str, Tensor]:
            out = decode(*args, **more)  # pyright: ignore[reportArgumentType]
            start, done[0] = done[0], done[0] + len(out["conf"])
            if start <= number < done[0] and (torch.is_autocast_enabled("cpu") or not only_autocast):
                out["conf"][number - start, 3, 5] = torch.inf
            return out

        monkeypatch.setattr(quick, "decode", broken)

    return arrange


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_values_that_are_not_finite_are_refused_by_frame(
    quick: PairNetwork, frames: Callable[..., np.ndarray], breaks_on: Callable, precision: compute.Precision
) -> None:
    breaks_on(5)
    pairs = [*make_pairs(4, "swin-1-noncyclic"), (1, 0), (2, 1), (3, 2)]
    with pytest.raises(Das3rError) as caught:
        predict_pairs(
            quick, frames(4, 48, 64), pairs, quiet(), compute=choose_compute("cpu", precision), first_frame=100
        )
    message = str(caught.value)
    assert "not finite for frames 103 and 102" in message
    assert ("--precision float32" if precision == "float16" else "das3r weights --verify") in message


def test_overflow_in_a_precision_nobody_asked_for_is_computed_again(
    quick: PairNetwork, frames: Callable[..., np.ndarray], breaks_on: Callable
) -> None:
    breaks_on(3, only_autocast=True)
    images, progress = frames(3, 48, 64), quiet()
    careful = Compute(CPU, torch.float16, careful=True)
    found = predict_pairs(quick, images, make_pairs(3), progress, compute=careful)
    assert any("goes on in float32" in message for message in progress.messages)
    assert_equal_pair_by_pair(found, quick, images, 1e-3)


def test_sixteen_bits_err_little(quick: PairNetwork, frames: Callable[..., np.ndarray]) -> None:
    images, pairs = frames(2, 48, 64), [(0, 1), (1, 0)]
    exact = predict_pairs(quick, images, pairs, quiet(), storage=torch.float32)
    # 0.006 and 0.04 where a CPU multiplies in float32; 0.023 for float16 where it has units for that (Intel's AMX).
    bounds: list[tuple[compute.Precision, float]] = [("float16", 0.05), ("bfloat16", 0.12)]
    for precision, bound in bounds:
        rough = predict_pairs(
            quick, images, pairs, quiet(), compute=choose_compute("cpu", precision), storage=torch.float32
        )
        assert rough.points1.dtype == torch.float32
        error = (rough.points1 - exact.points1).norm() / exact.points1.norm()
        assert 1e-5 < error < bound, precision


def test_far_points_stay_finite_in_half_precision(
    quick: PairNetwork, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = quick.decode

    def far(*args, **more):
        out = decode(*args, **more)
        out["pts3d"][:, 0, 0] = torch.tensor([0.0, -1e6, 2e6])
        return out

    monkeypatch.setattr(quick, "decode", far)
    found = predict_pairs(quick, frames(2, 48, 64), [(0, 1), (1, 0)], quiet())
    assert found.points1[0, 0, 0].tolist() == [0.0, -65504.0, 65504.0]


def test_too_little_memory_is_noticed_before_the_work(
    quick: PairNetwork, frames: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute.psutil, "virtual_memory", lambda: SimpleNamespace(available=2_000_000))
    with pytest.raises(Das3rError, match=r"--window"):
        predict_pairs(quick, frames(6, 48, 64), make_pairs(6), quiet())


def test_a_batch_is_what_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Compute(torch.device("cuda"), torch.float16)
    one = compute.pair_bytes(288, 512, gpu)
    for room, batch in ((0.5, 1), (1.5, 1), (3.9, 2), (6.5, 6), (1000, compute.CUDA_BATCH)):
        monkeypatch.setattr(compute, "free_memory", lambda device, room=room: int(room * one / compute.FREE_SHARE) + 9)
        assert choose_batch(0, 288, 512, gpu) == batch
        assert choose_batch(11, 288, 512, gpu) == 11
    assert choose_batch(0, 288, 512, Compute(CPU, None)) == compute.CPU_BATCH


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_compute("cpu").autocast is None
    for device in ("cuda:7", "gpu", "mps"):
        with pytest.raises(Das3rError, match="--device"):
            choose_compute(device)


def test_a_pair_is_followed_by_its_mirror_image() -> None:
    assert mirrors_adjacent([(0, 1), (0, 2), (1, 2), (1, 0), (2, 1)]) == [0, 3, 1, 2, 4]
