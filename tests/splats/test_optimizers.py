"""The optimizers of each parameter group."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from das3r_ns.splats.optimizers import FrameAdam, FrameAdamConfig


def gradients(steps: int, frames: int) -> list[tuple[int, torch.Tensor]]:
    """A frame at a time, and what it says of its camera."""
    generator = torch.Generator().manual_seed(0)
    looks = torch.randint(frames, (steps,), generator=generator).tolist()
    return [(frame, torch.randn(6, generator=generator)) for frame in looks]


def look(parameter: Parameter, frame: int, gradient: torch.Tensor) -> None:
    parameter.grad = torch.zeros_like(parameter)
    parameter.grad[frame] = gradient


def test_every_frame_has_an_adam_of_its_own():
    together = Parameter(torch.zeros(4, 6))
    alone = [Parameter(torch.zeros(6)) for _ in range(4)]
    optimizer = FrameAdam([together], lr=1e-2)
    others = [torch.optim.Adam([one], lr=1e-2, eps=1e-15) for one in alone]
    for frame, gradient in gradients(60, 4):
        before = together.detach().clone()
        look(together, frame, gradient)
        optimizer.step()
        alone[frame].grad = gradient
        others[frame].step()
        unseen = torch.arange(4) != frame
        torch.testing.assert_close(together.detach()[unseen], before[unseen], rtol=0, atol=0)
    torch.testing.assert_close(together.detach(), torch.stack([one.detach() for one in alone]))


def test_a_step_that_is_left_out_leaves_no_trace():
    (parameter, other), steps = (Parameter(torch.zeros(3, 6)) for _ in range(2)), gradients(20, 3)
    optimizer, reference = FrameAdam([parameter], lr=1e-2), FrameAdam([other], lr=1e-2)
    for number, (frame, gradient) in enumerate(steps):
        look(parameter, frame, gradient)
        optimizer.found_inf = torch.tensor(float(number % 3 == 0))
        optimizer.step()
        if number % 3:
            look(other, frame, gradient)
            reference.step()
    torch.testing.assert_close(parameter, other)


@pytest.mark.parametrize("of", [FrameAdam, torch.optim.Adam], ids=["frame-adam", "adam"])
def test_a_run_goes_on_with_the_state_it_has_saved(of: type[FrameAdam | torch.optim.Adam]):
    """Runs of before have Adam's, which says nothing of single frames: looks at them are counted from 0."""
    first = Parameter(torch.zeros(3, 6))
    saved = of([first], lr=1e-2)
    for frame, gradient in gradients(9, 3):
        look(first, frame, gradient)
        saved.step()
    second = Parameter(first.detach().clone())
    resumed = FrameAdamConfig(lr=1e-2).setup([second])
    resumed.load_state_dict(saved.state_dict())
    look(second, 1, torch.ones(6))
    resumed.step()
    assert torch.isfinite(second).all()
    torch.testing.assert_close(second[[0, 2]], first[[0, 2]])
    assert (second[1] != first[1]).all()
    if of is FrameAdam:
        look(first, 1, torch.ones(6))
        saved.step()
        torch.testing.assert_close(second, first)
