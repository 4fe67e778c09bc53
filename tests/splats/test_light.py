"""Light that is learned with the scene."""

from __future__ import annotations

import torch

from das3r_ns.splats.light import FrameLight


def test_it_starts_from_what_was_measured() -> None:
    light = FrameLight(torch.tensor([[0.0, 0.0, 0.0], [0.2, 0.0, -0.2]]))
    rgb = torch.full((2, 2, 3), 0.5)
    torch.testing.assert_close(light(rgb, 0), rgb)
    torch.testing.assert_close(light(rgb, 1), rgb * torch.tensor([0.2, 0.0, -0.2]).exp())
    assert light.prior() == 0


def test_one_scene_explains_frames_of_different_light() -> None:
    """Colours and light are learned together from wrong measurements; the scene keeps the middle light."""
    torch.manual_seed(0)
    truth = 0.2 + 0.6 * torch.rand(8, 8, 3)
    true_gain = torch.tensor([[-0.3, -0.2, -0.3], [0.0, 0.0, 0.0], [0.3, 0.2, 0.3]])
    light = FrameLight(0.7 * true_gain)
    scene = torch.nn.Parameter(torch.full_like(truth, 0.5))
    adam = torch.optim.Adam([{"params": [scene], "lr": 0.02}, {"params": light.parameters(), "lr": 0.005}])
    for step in range(600):
        frame = step % 3
        adam.zero_grad()
        loss = (light(scene, frame) - truth * true_gain[frame].exp()).abs().mean() + light.prior()
        loss.backward()
        adam.step()
    assert (scene.detach() - truth).abs().mean() < 0.02
    for frame in range(3):
        off = (light(scene, frame) - truth * true_gain[frame].exp()).abs().mean()
        assert off.item() < 0.01


def test_a_brighter_light_of_all_frames_costs() -> None:
    light = FrameLight(torch.zeros(4, 3))
    with torch.no_grad():
        light.log_gain += 0.1
    assert light.prior() > 0.02
