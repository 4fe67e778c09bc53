"""The CPU rasteriser against a dense double-precision one: pictures, gradients, absgrad."""

from itertools import pairwise

import pytest
import torch

from das3r_ns.rasterization import rasterization


def _compare_pictures(actual, expected, tolerance=1e-4, stray=3):
    """All within tolerance but a few values on a threshold (alpha at 1/255, the last splat of a pixel)."""
    off = (actual.double() - expected).abs() > tolerance * expected.abs().clamp(min=1.0)
    assert int(off.sum()) <= stray * actual.shape[-1], float((actual.double() - expected).abs().max())


def _backward(render, alphas, seed=7):
    """A loss in which every value has its own weight."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.randn(*render.shape[:-1], render.shape[-1] + 1, generator=g, dtype=torch.float64)
    weights = weights.to(render.dtype)
    ((render * weights[..., :-1]).sum() + (alphas * weights[..., -1:]).sum()).backward()


def _run(function, inputs, **options):
    render, alphas, info = function(**inputs, **options)
    info["means2d"].retain_grad()
    _backward(render, alphas)
    return render.detach(), alphas.detach(), info


def _compare_gradients(ours, reference, tolerance=1e-4):
    for name, tensor in ours.items():
        if not (isinstance(tensor, torch.Tensor) and tensor.requires_grad):
            continue
        expected = reference[name].grad
        if expected is None or tensor.grad is None:
            assert (expected is None or not expected.any()) and (tensor.grad is None or not tensor.grad.any()), name
            continue
        assert tensor.grad.isfinite().all(), name
        error = (tensor.grad.double() - expected).norm() / expected.norm().clamp(min=1e-12)
        assert error < tolerance, f"{name}: {float(error):.2e}"


@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
@pytest.mark.parametrize("render_mode", ["RGB", "ED", "RGB+D", "RGB+ED"])
def test_matches_dense_reference(dense, make_scene, render_mode, rasterize_mode):
    scene = make_scene(seed=3)
    if render_mode == "ED":
        scene.backgrounds = None
    options = {"sh_degree": 3, "render_mode": render_mode, "rasterize_mode": rasterize_mode}
    ours, reference = scene.inputs(), scene.inputs(torch.float64)
    render, alphas, info = _run(rasterization, ours, **options)
    expected, expected_alphas, expected_info = _run(dense, reference, **options)
    _compare_pictures(render, expected)
    _compare_pictures(alphas, expected_alphas)
    assert torch.equal(info["radii"], expected_info["radii"].int())
    _compare_gradients(ours, reference)
    error = (info["means2d"].grad.double() - expected_info["means2d"].grad).norm()
    assert error < 1e-4 * expected_info["means2d"].grad.norm()


def test_extra_channels_several_cameras_and_backgrounds(dense, make_scene):
    scene = make_scene(cameras=2, n_extra=2, seed=5)
    ours, reference = scene.inputs(), scene.inputs(torch.float64)
    render, alphas, _ = _run(rasterization, ours, sh_degree=2, render_mode="RGB+ED")
    expected, expected_alphas, _ = _run(dense, reference, sh_degree=2, render_mode="RGB+ED")
    assert render.shape == (2, 37, 45, 3 + 2 + 1)
    _compare_pictures(render, expected)
    _compare_pictures(alphas, expected_alphas)
    _compare_gradients(ours, reference)


@pytest.mark.parametrize("degree", [0, 1, 4])
def test_degrees(dense, make_scene, degree):
    scene = make_scene(seed=degree, cameras=2)
    scene.colors = 0.4 * torch.randn(2, 60, 25, 3, generator=torch.Generator().manual_seed(1))  # one set per camera
    ours, reference = scene.inputs(), scene.inputs(torch.float64)
    render, _, _ = _run(rasterization, ours, sh_degree=degree)
    expected, _, _ = _run(dense, reference, sh_degree=degree)
    _compare_pictures(render, expected)
    _compare_gradients(ours, reference)


@pytest.mark.parametrize("per_camera", [False, True])
def test_colours_given_as_values(dense, make_scene, per_camera):
    scene = make_scene(cameras=2, seed=8)
    g = torch.Generator().manual_seed(0)
    scene.colors = torch.rand(2, 60, 3, generator=g) if per_camera else torch.rand(60, 3, generator=g)
    ours, reference = scene.inputs(), scene.inputs(torch.float64)
    render, _, _ = _run(rasterization, ours)
    expected, _, _ = _run(dense, reference)
    _compare_pictures(render, expected)
    _compare_gradients(ours, reference)


def test_opaque_stack_ends_pixels_and_clamps_alpha(dense, make_scene):
    """Many near-opaque splats over each other: pixels end early, whole tiles too, and alpha is held at 0.999."""
    scene = make_scene(n=300, seed=2, size=0.5)
    scene.opacities = torch.where(torch.arange(300) % 2 == 0, 1.0, 0.7)
    ours, reference = scene.inputs(), scene.inputs(torch.float64)
    render, alphas, _ = _run(rasterization, ours, sh_degree=3)
    expected, expected_alphas, _ = _run(dense, reference, sh_degree=3)
    assert float((expected_alphas > 0.99).double().mean()) > 0.9
    _compare_pictures(render, expected, stray=12)
    _compare_pictures(alphas, expected_alphas, stray=12)
    _compare_gradients(ours, reference, tolerance=2e-3)  # single pixels end one splat sooner or later


def test_absgrad_is_the_sum_of_sizes_over_pixels(dense, make_scene):
    scene = make_scene(n=40, seed=11)
    ours, reference = scene.inputs(), scene.inputs(torch.float64)
    _, _, info = _run(rasterization, ours, sh_degree=3, absgrad=True)
    _, _, expected = _run(dense, reference, sh_degree=3, absgrad=True)
    absolute = torch.zeros(1, 40, 2, dtype=torch.float64)
    for c, i, centre in expected["per_pixel"]:
        if centre.grad is not None:
            absolute[c, i] = centre.grad.abs().sum(dim=(0, 1))
    assert (info["means2d"].absgrad.double() - absolute).norm() < 1e-4 * absolute.norm()
    assert (info["means2d"].absgrad + 1e-6 >= info["means2d"].grad.abs()).all()


def test_near_far_and_radius_clip(dense, make_scene):
    scene = make_scene(seed=6)
    limits = {"near_plane": 2.4, "far_plane": 3.5, "radius_clip": 9.0, "eps2d": 0.5, "sh_degree": 3}
    ours, reference = scene.inputs(), scene.inputs(torch.float64)
    render, _, info = _run(rasterization, ours, **limits)
    expected, _, expected_info = _run(dense, reference, **limits)
    assert 0 < int((info["radii"] > 0).sum()) < 40
    assert torch.equal(info["radii"], expected_info["radii"].int())
    _compare_pictures(render, expected)
    _compare_gradients(ours, reference)


def test_long_thin_splats_keep_their_digits(dense, make_scene):
    """Needles far longer than the image, at all angles."""
    scene = make_scene(n=20, seed=9)
    scene.scales = torch.tensor([[3.0, 0.005, 0.005]]).repeat(20, 1)
    ours, reference = scene.inputs(), scene.inputs(torch.float64)
    render, _, _ = _run(rasterization, ours, sh_degree=3)
    expected, _, _ = _run(dense, reference, sh_degree=3)
    _compare_pictures(render, expected)
    _compare_gradients(ours, reference)


def test_flat_splats_give_finite_gradients_when_antialiased(make_scene):
    """Scales of zero: no area, so antialiasing makes them invisible; the gradient must not be NaN."""
    scene = make_scene(seed=1)
    scene.scales[::2, 1:] = 0.0
    scene.scales[::3] = 0.0
    inputs = scene.inputs()
    render, alphas, _ = rasterization(**inputs, sh_degree=3, rasterize_mode="antialiased")
    _backward(render, alphas)
    assert render.isfinite().all()
    for tensor in inputs.values():
        if isinstance(tensor, torch.Tensor) and tensor.requires_grad and tensor.grad is not None:
            assert tensor.grad.isfinite().all()


def test_depth_order_does_not_depend_on_input_order(make_scene):
    scene = make_scene(seed=12)
    render, _, _ = rasterization(**scene.inputs(), sh_degree=3)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    for name in ("means", "quats", "scales", "opacities", "colors"):
        setattr(scene, name, getattr(scene, name)[order])
    again, _, _ = rasterization(**scene.inputs(), sh_degree=3)
    assert torch.allclose(render, again, atol=1e-6)


def test_equal_depths_keep_their_order(make_scene):
    """Two splats at one place: the first one covers the second."""
    scene = make_scene(n=2)
    scene.means = torch.tensor([[0.0, 0.0, 3.0]]).repeat(2, 1)
    scene.scales = torch.full((2, 3), 0.3)
    scene.opacities = torch.tensor([0.9, 0.9])
    inputs = {**scene.inputs(), "backgrounds": None}
    images = []
    for colors in (torch.eye(3)[:2], torch.eye(3)[[1, 0]]):
        images.append(rasterization(**{**inputs, "colors": colors})[0][0, 19, 22].detach())
    for image, front in zip(images, (0, 1), strict=True):
        assert float(image[front]) > 5 * float(image[1 - front])
    assert all(torch.equal(a, b[[1, 0, 2]]) for a, b in pairwise(images))
