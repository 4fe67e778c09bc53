"""What the model and gsplat's strategies rely on: shapes, info, empties, threads, errors."""

import subprocess
import sys
import threading

import pytest
import torch

from das3r_ns.rasterization import rasterization
from das3r_ns.rasterization.backend import expected_obstacle

LEAVES = ("means", "quats", "scales", "opacities", "colors", "viewmats")


def _gradients(scene, **options):
    inputs = scene.inputs()
    render, alphas, info = rasterization(**inputs, sh_degree=3, absgrad=True, render_mode="RGB+ED", **options)
    info["means2d"].retain_grad()
    (render.square().sum() + alphas.sum()).backward()
    return [render.detach(), info["means2d"].grad, info["means2d"].absgrad] + [inputs[name].grad for name in LEAVES]


def test_info_is_what_the_strategies_ask_for(make_scene):
    scene = make_scene(cameras=2)
    _, _, info = rasterization(**scene.inputs(), sh_degree=3, absgrad=True)
    assert (info["width"], info["height"], info["n_cameras"]) == (45, 37, 2)
    assert info["radii"].shape == (2, 60) and info["means2d"].shape == (2, 60, 2)
    assert info["gaussian_ids"] is None and not info["means2d"].is_leaf


def test_nothing_to_render(make_scene):
    """No Gaussian, or none in sight: the background, and gradients of zero."""
    for n, shift in ((0, 0.0), (5, -100.0)):
        scene = make_scene(n=n)
        scene.means[:, 2] += shift
        inputs = scene.inputs()
        render, alphas, info = rasterization(**inputs, sh_degree=3, absgrad=True)
        info["means2d"].retain_grad()
        assert torch.equal(render, scene.backgrounds[0].expand(1, 37, 45, 3)) and not alphas.any()
        (render.sum() + alphas.sum()).backward()
        assert all(inputs[name].grad is not None and not inputs[name].grad.any() for name in LEAVES)
        assert info["means2d"].grad.shape == info["means2d"].absgrad.shape == (1, n, 2)
        assert torch.allclose(inputs["backgrounds"].grad, torch.full((1, 3), 37.0 * 45.0))


def test_behind_at_and_beside_the_camera(make_scene):
    """z of zero, behind the camera, not a number: left out, without a NaN anywhere."""
    scene = make_scene()
    scene.means[0, 2], scene.means[1, 2], scene.means[2] = 0.0, -2.0, float("nan")
    scene.quats[3] = 0.0
    inputs = scene.inputs()
    render, alphas, info = rasterization(**inputs, sh_degree=3, near_plane=0.0)
    (render.sum() + alphas.sum()).backward()
    assert render.isfinite().all() and not info["radii"][0, :3].any()
    assert all(inputs[name].grad.isfinite().all() for name in LEAVES)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (33, 17), (100, 3)])
def test_any_image_size(make_scene, size):
    scene = make_scene()
    scene.width, scene.height = size
    render, alphas, _ = rasterization(**scene.inputs(), sh_degree=3)
    assert render.shape == (1, size[1], size[0], 3) and alphas.shape == (1, size[1], size[0], 1)


@pytest.mark.parametrize("render_mode, channels", [("RGB", 5), ("D", 3), ("ED", 3), ("RGB+D", 6), ("RGB+ED", 6)])
def test_channels_are_colours_extra_depth(make_scene, render_mode, channels):
    scene = make_scene(n_extra=2)
    inputs = {**scene.inputs(), "backgrounds": None}
    render, _, _ = rasterization(**inputs, sh_degree=3, render_mode=render_mode)
    assert render.shape[-1] == channels
    whole, _, _ = rasterization(**inputs, sh_degree=3, render_mode="RGB+D")
    if "RGB" in render_mode:
        assert torch.equal(render[..., :5], whole[..., :5])
    else:
        assert torch.equal(render[..., :2], whole[..., 3:5])


def test_many_channels(make_scene):
    scene = make_scene(n_extra=15)
    inputs = {**scene.inputs(), "backgrounds": None}
    render, _, _ = rasterization(**inputs, sh_degree=3)
    single = rasterization(**{**inputs, "extra": inputs["extra"][:, 7:8]}, sh_degree=3)[0]
    assert torch.allclose(render[..., 3 + 7], single[..., 3], atol=1e-6)


def test_same_bits_at_any_number_of_threads(make_scene, monkeypatch):
    scene = make_scene(n=400, cameras=2)
    results = []
    for count in ("1", "2", "3"):
        monkeypatch.setenv("DAS3R_RASTER_THREADS", count)
        results.append(_gradients(scene))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_renders_beside_training(make_scene, monkeypatch):
    """The viewer's thread renders while the training thread steps; neither changes what the other gets."""
    scene, viewed = make_scene(n=300, seed=1), make_scene(n=200, seed=2)
    expected = _gradients(scene)
    with torch.no_grad():
        picture = rasterization(**viewed.inputs(), sh_degree=3)[0]
    wrong, done = [], threading.Event()

    def view() -> None:
        with torch.no_grad():
            while not done.is_set():
                if not torch.equal(rasterization(**viewed.inputs(), sh_degree=3)[0], picture):
                    wrong.append("picture")

    viewers = [threading.Thread(target=view) for _ in range(2)]
    monkeypatch.setenv("DAS3R_RASTER_THREADS", "2")
    try:
        for viewer in viewers:
            viewer.start()
        for _ in range(15):
            assert all(torch.equal(a, b) for a, b in zip(_gradients(scene), expected, strict=True))
    finally:
        done.set()
        for viewer in viewers:
            viewer.join()
    assert not wrong


def test_default_strategy_densifies(make_scene):
    """Duplicate, split and prune happen, and all parameters and optimiser states keep one length."""
    from gsplat import DefaultStrategy

    torch.manual_seed(0)
    scene = make_scene(n=80, seed=3)
    scene.opacities[:5] = 0.001
    params = torch.nn.ParameterDict(
        {
            "means": torch.nn.Parameter(scene.means),
            "quats": torch.nn.Parameter(scene.quats),
            "scales": torch.nn.Parameter(scene.scales.log()),
            "opacities": torch.nn.Parameter(scene.opacities.clamp(1e-4, 0.99).logit()),
            "colors": torch.nn.Parameter(scene.colors),
            "staticness": torch.nn.Parameter(torch.zeros(80, 1)),
        }
    )
    optimizers: dict[str, torch.optim.Optimizer] = {name: torch.optim.Adam([p], lr=1e-3) for name, p in params.items()}
    strategy = DefaultStrategy(refine_start_iter=2, refine_every=4, absgrad=True, grow_grad2d=1e-4, grow_scale3d=0.1)
    strategy.check_sanity(params, optimizers)
    state, target, lengths = strategy.initialize_state(), torch.rand(37, 45, 3), []
    for step in range(1, 10):
        static = params["staticness"].squeeze(-1).sigmoid()
        render, _, info = rasterization(
            params["means"], params["quats"], params["scales"].exp(), params["opacities"].sigmoid() * static,
            params["colors"], scene.viewmats, scene.Ks, 45, 37, sh_degree=3, absgrad=True,
            extra=static[:, None],
        )  # fmt: skip
        strategy.step_pre_backward(params, optimizers, state, step, info)
        (render[0, ..., :3] - target).abs().mean().backward()
        strategy.step_post_backward(params, optimizers, state, step, info, packed=False)
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        lengths.append({len(p) for p in params.values()})
        assert all(len(sizes) == 1 for sizes in lengths)
    assert lengths[0] == {80} and lengths[-1] != {80}
    assert bool((params["opacities"].sigmoid() >= strategy.prune_opa).all())


def test_only_what_is_asked_for_gets_a_gradient(make_scene):
    """Camera optimisation alone, as at test time."""
    inputs = make_scene(n_extra=1).inputs()
    for name in (*LEAVES[:-1], "extra", "backgrounds"):
        inputs[name].requires_grad_(False)
    render, _, _ = rasterization(**inputs, sh_degree=3)
    render.square().sum().backward()
    assert inputs["viewmats"].grad.any() and inputs["means"].grad is None


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"quats": torch.zeros(60, 3)}, ValueError, "quats: expected shape"),
        ({"colors": torch.zeros(60, 3)}, ValueError, "colors: expected shape"),
        ({"extra": torch.zeros(59, 1)}, ValueError, "extra: expected shape"),
        ({"backgrounds": torch.zeros(1, 4)}, ValueError, "backgrounds: expected"),
        ({"sh_degree": 5}, ValueError, "sh_degree 5"),
        ({"render_mode": "depth"}, ValueError, "render_mode 'depth'"),
        ({"rasterize_mode": "sharp"}, ValueError, "rasterize_mode 'sharp'"),
        ({"width": 0}, ValueError, "at least 1"),
        ({"packed": True}, NotImplementedError, "packed"),
        ({"sparse_grad": True}, NotImplementedError, "sparse_grad"),
        ({"distributed": True}, NotImplementedError, "distributed"),
        ({"camera_model": "fisheye"}, NotImplementedError, "camera_model='fisheye'"),
        ({"covars": torch.zeros(60, 3, 3)}, NotImplementedError, "covars"),
        ({"tile": 8}, TypeError, "unexpected keyword argument 'tile'"),
    ],
)
def test_errors_name_the_argument(make_scene, change, error, words):
    with pytest.raises(error, match=words):
        rasterization(**{**make_scene().inputs(), "sh_degree": 3, **change})


def test_neutral_gsplat_arguments_are_accepted(make_scene):
    rasterization(**make_scene().inputs(), sh_degree=3, camera_model="pinhole", distributed=False, channel_chunk=32)


def test_import_is_light():
    """Registration of the method must not compile anything, nor touch gsplat's CUDA backend."""
    code = (
        "import sys, das3r_ns.rasterization as r; assert not {'numba', 'gsplat'} & set(sys.modules);"
        "import torch; r.rasterization(torch.rand(1, 3), torch.rand(1, 4), torch.rand(1, 3), torch.rand(1),"
        "torch.rand(1, 3), torch.eye(4)[None], torch.eye(3)[None], 8, 8);"
        "assert not [m for m in sys.modules if m.startswith('gsplat')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(expected_obstacle() is not None, reason="gsplat's CUDA kernels are not to be had")
@pytest.mark.parametrize("rasterize_mode", ["classic", "antialiased"])
def test_matches_gsplat_on_cuda(make_scene, rasterize_mode):
    """gsplat's own CUDA code, and our extra channels on it, against the CPU."""
    scene = make_scene(n=500, n_extra=2)
    cpu = scene.inputs()
    gpu: dict = {k: v.detach().cuda().requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in cpu.items()}
    options = {"sh_degree": 3, "render_mode": "RGB+ED", "absgrad": True, "rasterize_mode": rasterize_mode}
    pictures, infos = [], []
    for inputs in (cpu, gpu):
        render, alphas, info = rasterization(**inputs, **options)
        (render.square().sum() + alphas.sum()).backward()
        pictures.append(render.detach().cpu())
        infos.append(info["means2d"].absgrad.cpu())
    assert float(((pictures[0] - pictures[1]).abs() > 1e-3).float().mean()) < 0.01
    assert float((infos[0] - infos[1]).norm() / infos[1].norm()) < 1e-2
    for name in (*LEAVES, "extra", "backgrounds"):
        ours, theirs = cpu[name].grad, gpu[name].grad.cpu()
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-2, name


def test_compiles_where_nothing_can_be_cached(monkeypatch):
    """Neither the package's folder nor the user's cache can be written: numba refuses to cache, and we go without."""
    import numba

    from das3r_ns.rasterization import _threads

    def refuse(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", refuse)
    assert _threads.kernel(lambda: 5)() == 5
