"""Optical flow of pictures that were moved by a known amount."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from das3r_ns.frontend.geometric.flow import dis_flow, pick_flow
from das3r_ns.frontend.geometric.pair_flows import picture_texture
from das3r_ns.frontend.geometric.raft import load_raft, raft_flow, raft_weights
from das3r_ns.frontend.pairs import strided_pairs


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = sum(
        cv2.resize(rng.uniform(0, 60, (height // s, width // s)).astype(np.float32), (width, height))
        for s in (4, 12, 40)
    )
    return np.repeat(np.clip(noise, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


def shifted(count: int, step: tuple[int, int], size: tuple[int, int] = (120, 200)) -> np.ndarray:
    """Frames in which the picture moves by ``step`` (x, y) each."""
    margin = count * max(abs(step[0]), abs(step[1]))
    wide = textured(size[0] + 2 * margin, size[1] + 2 * margin)
    return np.stack(
        [
            wide[margin - i * step[1] : margin - i * step[1] + size[0], margin - i * step[0] :][:, : size[1]]
            for i in range(count)
        ]
    )


def test_flow_and_its_backward_error() -> None:
    flows = dis_flow(shifted(3, (3, -2)), strided_pairs(3, (1, 2)))
    np.testing.assert_allclose(np.median(flows.flow(0, 1), axis=(0, 1)), [3, -2], atol=0.1)
    np.testing.assert_allclose(np.median(flows.flow(2, 0), axis=(0, 1)), [-6, 4], atol=0.1)
    error = flows.backward_error(0, 1)
    assert np.median(error[np.isfinite(error)]) < 0.1
    assert np.isinf(error[:, -2:]).all()


def test_long_strides_start_from_short_ones() -> None:
    frames = shifted(9, (11, 3))
    chained = dis_flow(frames, strided_pairs(9, (1, 2, 4, 8))).flow(0, 8)
    alone = dis_flow(frames, [(0, 8)]).flow(0, 8)
    inside = np.s_[:80, :100]
    true = np.array([88, 24])
    assert np.median(np.linalg.norm(chained[inside] - true, axis=-1)) < 1.0
    assert np.median(np.linalg.norm(alone[inside] - true, axis=-1)) > 10.0


def test_frames_far_apart_are_matched_by_features() -> None:
    flows = dis_flow(shifted(2, (90, 30), size=(200, 320)), strided_pairs(2, (1,)))
    inside = flows.flow(0, 1)[:160, :220]
    assert np.median(np.linalg.norm(inside - [90, 30], axis=-1)) < 1.0


@pytest.mark.parametrize("value", [0, 128, 255])
def test_plain_pictures_have_no_texture_and_no_flow(value: int) -> None:
    flows = dis_flow(np.full((2, 60, 80, 3), value, dtype=np.uint8), strided_pairs(2, (1,)))
    assert not flows.texture.any()
    np.testing.assert_allclose(flows.flow(0, 1), 0.0)


def test_texture_counts_corners_and_not_straight_edges() -> None:
    edge = np.zeros((40, 40), dtype=np.uint8)
    edge[:, 20:] = 100
    corner = edge.copy()
    corner[:20] = 0
    assert picture_texture(edge)[20, 20] < 1.0
    assert picture_texture(corner)[20, 20] > 5.0


def test_a_section_counts_from_its_first_frame() -> None:
    flows = dis_flow(shifted(5, (3, -2)), strided_pairs(5, (1, 2)))
    part = flows.section(range(1, 4))
    assert part.pairs == strided_pairs(3, (1, 2)) and part.num_frames == 3
    assert part.fields[0, 2] is flows.fields[1, 3], "shared, not copied"
    np.testing.assert_array_equal(part.texture, flows.texture[1:4])


def test_dis_where_raft_is_not_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert raft_weights() is None
    assert pick_flow(torch.device("cuda")) == pick_flow(torch.device("cpu")) == (dis_flow, "DIS")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "raft_large_C_T_SKHT_V2-ff5fadd5.pth").touch()
    assert raft_weights() is not None
    assert pick_flow(torch.device("cpu")) == (dis_flow, "DIS"), "seconds for a pair, on a CPU"


class KnownFlow(nn.Module):
    """Stands in for RAFT: its flow is the mean colour of both frames, at the size it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.sizes: set[tuple[int, ...]] = set()

    def forward(self, first: Tensor, second: Tensor, num_flow_updates: int) -> list[Tensor]:
        self.sizes.add(tuple(first.shape[-2:]))
        assert first.shape == second.shape and num_flow_updates > 0
        flow = torch.stack([first.mean(dim=1), second.mean(dim=1)], dim=1)
        return [torch.full_like(flow, torch.nan), flow]


@pytest.mark.parametrize(("size", "padded"), [((90, 161), (128, 168)), ((136, 200), (136, 200))])
def test_raft_sees_frames_in_pairs_at_sizes_it_can_take(size: tuple[int, int], padded: tuple[int, int]) -> None:
    images = np.stack([np.full((*size, 3), value, np.uint8) for value in (0, 51, 255)])
    network, done = KnownFlow(), []
    flows = raft_flow(network, images, strided_pairs(3, (1, 2)), lambda: done.append(1))
    assert flows.pairs == strided_pairs(3, (1, 2)) and len(done) == 6 and network.sizes == {padded}
    values = [-1.0, -0.6, 1.0]
    for i, j in flows.pairs:
        assert flows.flow(i, j).shape == (*size, 2)
        np.testing.assert_allclose(flows.flow(i, j), np.broadcast_to([values[i], values[j]], (*size, 2)), atol=1e-3)


def test_raft_itself_loads_and_runs(tmp_path: Path) -> None:
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    torch.save(raft_large().state_dict(), tmp_path / "raft.pth")
    network = load_raft(tmp_path / "raft.pth", torch.device("cpu"))
    assert not network.training
    flows = raft_flow(network, shifted(2, (3, -2), size=(60, 100)), [(0, 1)])
    assert flows.flow(0, 1).shape == (60, 100, 2) and np.isfinite(flows.flow(0, 1)).all()
