"""The viewer's panel: what it makes of the model, where it takes a client, and that nothing else hears of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import viser
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.utils import get_camera, parse_object
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO, Viewer
from nerfstudio.viewer.viewer_elements import ViewerControl
from nerfstudio.viewer_legacy.server.viewer_utils import IOChangeException
from viser import CameraHandle

from das3r_ns.splats import viewer as viewer_panel
from das3r_ns.splats.camera import view_matrix
from das3r_ns.splats.viewer import EVERYTHING, MOVES, STATIC, ViewerPanel

FRAME = 6


@pytest.fixture()
def trainer(make_trainer):
    """An untrained scene in which all that is left of pixel 50 of FRAME counts as a mover."""
    trainer = make_trainer()
    model = trainer.pipeline.eval().model
    camera = camera_of(trainer.pipeline)
    w2c_cv = view_matrix(camera.camera_to_worlds)[0]
    x, _, z = w2c_cv[:3, :3] @ model.means.detach().T + w2c_cv[:3, 3:]
    model.gauss_params["staticness"].data[x / z * camera.fx[0] + camera.cx[0] < 50] = -6.0
    return trainer


@pytest.fixture()
def viewer(trainer, tmp_path) -> Iterator[Viewer]:
    """Nerfstudio's viewer of it, as ns-viewer starts it, with no browser."""
    pipeline = trainer.pipeline
    viewer = Viewer(
        ViewerConfig(websocket_host="127.0.0.1"), tmp_path / "log" / "viewer.txt", trainer.config.data, pipeline
    )
    viewer.init_scene(pipeline.datamanager.train_dataset, "completed", pipeline.datamanager.eval_dataset)
    yield viewer
    viewer.viser_server.stop()


@pytest.fixture()
def panel(viewer: Viewer) -> ViewerPanel:
    """The panel, set up by the viewer."""
    return viewer.pipeline.model.viewer_panel  # pyright: ignore[reportReturnType]


def camera_of(pipeline, index: int = FRAME) -> Cameras:
    """One training camera, as the viewer would give it."""
    return pipeline.datamanager.train_dataset.cameras[index : index + 1]


def client_of(aspect: float) -> viser.ClientHandle:
    """A browser's camera, without the browser."""
    client = SimpleNamespace(
        _websock_connection=SimpleNamespace(queue_message=lambda message: None), atomic=nullcontext
    )
    client.camera = CameraHandle(client)  # pyright: ignore[reportArgumentType]
    state = client.camera._state
    state.position, state.look_at, state.up_direction = np.full(3, 3.0), np.zeros(3), np.array([0.0, 0.0, 1.0])
    state.wxyz = np.array([1.0, 0.0, 0.0, 0.0])
    state.aspect, state.fov, state.update_timestamp = aspect, 1.0, 1.0
    return client  # pyright: ignore[reportReturnType]


@torch.no_grad()
def test_untouched_controls_show_the_evaluation_bit_for_bit(trainer):
    model = trainer.pipeline.model
    plain = model.evaluation_outputs(camera_of(trainer.pipeline))
    seen = model.viewer_panel.outputs(model, camera_of(trainer.pipeline))
    assert set(seen) == {"rgb", "depth", "accumulation", "staticness", "dynamic_probability"}
    for name, value in seen.items():
        assert torch.equal(value, plain[name]), name


@torch.no_grad()
def test_the_threshold_hides_what_is_not_static_enough(trainer):
    model = trainer.pipeline.model
    threshold = model.viewer_panel.threshold
    plain = model.viewer_panel.outputs(model, camera_of(trainer.pipeline))
    threshold.value = 1.0
    assert model.viewer_panel.outputs(model, camera_of(trainer.pipeline))["accumulation"].max() == 0
    threshold.value = 0.5
    static = model.viewer_panel.outputs(model, camera_of(trainer.pipeline))
    assert (static["dynamic_probability"] < 0.5).all() and plain["dynamic_probability"].max() > 0.6
    assert static["accumulation"].mean() > 0.5


@torch.no_grad()
def test_the_switch_shows_movers_with_the_rest_or_alone(trainer):
    model = trainer.pipeline.model

    def outputs(shown: str) -> dict[str, torch.Tensor]:
        model.viewer_panel.shown.value = shown
        return model.viewer_panel.outputs(model, camera_of(trainer.pipeline))

    static, everything, alone = outputs(STATIC), outputs(EVERYTHING), outputs(MOVES)
    mover, rest = slice(0, 40), slice(60, 160)
    assert everything["accumulation"][:, mover].mean() > 0.8 > 0.2 > static["accumulation"][:, mover].mean()
    assert everything["staticness"][:, mover].mean() < 0.1
    torch.testing.assert_close(everything["rgb"][:, rest], static["rgb"][:, rest], atol=0.05, rtol=0)
    torch.testing.assert_close(alone["rgb"][:, mover], everything["rgb"][:, mover], atol=0.05, rtol=0)
    assert alone["accumulation"][:, rest].mean() < 0.01
    model.viewer_panel.threshold.value = 1.0  # nothing is static any more: all of it moves
    assert torch.equal(outputs(MOVES)["rgb"], everything["rgb"])


def test_the_viewer_finds_the_panel_and_shows_every_frame(viewer, panel, demo_video):
    assert [element for _, element in parse_object(viewer.pipeline, ViewerControl, "")] == [panel]
    assert panel.shown.gui_handle is not None and panel.frame is not None
    assert len(viewer.camera_handles) == len(demo_video.images) == panel.frame.max + 1
    for handle in viewer.camera_handles.values():
        assert handle._impl.click_cb is not None and len(handle._impl.click_cb) == 2  # nerfstudio's and the panel's


def test_cameras_stand_where_training_has_moved_them(viewer, panel):
    model = viewer.pipeline.model
    before = np.array(viewer.camera_handles[1].position)
    model.camera_optimizer.pose_adjustment.data[1, :3] = torch.tensor([0.1, 0.2, 0.3])
    viewer.update_camera_poses()
    moved = (np.array(viewer.camera_handles[1].position) - before) / VISER_NERFSTUDIO_SCALE_RATIO
    np.testing.assert_allclose(moved, [0.1, 0.2, 0.3], atol=1e-5)


def test_cameras_are_looked_at_now_and_then_and_all_at_once(viewer, panel, monkeypatch):
    model, asked = viewer.pipeline.model, []
    monkeypatch.setattr(viewer_panel, "FOLLOW_EVERY", 1e9)  # however long five looks take here
    view_matrix_of = model.view_matrix
    monkeypatch.setattr(model, "view_matrix", lambda cameras: asked.append(len(cameras)) or view_matrix_of(cameras))
    for _ in range(5):
        viewer.update_camera_poses()
    assert asked == [len(panel.frames)]
    for index in range(len(panel.frames)):
        np.testing.assert_allclose(panel.frames.all_c2w_cv()[index], panel.frames.c2w_cv(index), atol=1e-6)


def test_cameras_that_have_not_moved_are_left_alone(viewer, panel):
    panel.place_cameras()
    handles = {index: SimpleNamespace(position=None, wxyz=None) for index in viewer.camera_handles}
    viewer.camera_handles = handles
    viewer.pipeline.model.camera_optimizer.pose_adjustment.data[3, 0] = 0.1
    panel.place_cameras()
    placed = [index for index, handle in handles.items() if handle.position is not None]
    assert placed == [3]


@torch.no_grad()
def test_at_a_frame_the_input_lies_on_its_render(viewer, panel, demo_video):
    model = viewer.pipeline.model
    model.camera_optimizer.pose_adjustment.data[FRAME] = torch.tensor([0.02, -0.01, 0.03, 0.01, 0.02, -0.03])
    panel.choose_frame(FRAME)
    client = client_of(aspect=160 / 90)
    panel._stand_at_frame(client)
    camera = get_camera(viewer.get_camera_state(client), 90, 160)
    truth = camera_of(viewer.pipeline)
    truth.metadata = {"cam_idx": FRAME}
    torch.testing.assert_close(camera.fx, truth.fx, rtol=1e-3, atol=0)
    seen = panel.outputs(model, camera)
    torch.testing.assert_close(seen["rgb"], model.evaluation_outputs(truth)["rgb"], atol=0.02, rtol=0)
    picture = torch.from_numpy(demo_video.images[FRAME] / 255.0).float()
    assert (seen["input"] - picture).abs().mean() < 1e-3
    moves = torch.from_numpy(demo_video.estimate.dynamic_probability[FRAME] > 0)
    assert (seen["input_moving"] - picture)[moves].abs().mean() < 1e-3
    assert seen["input_moving"][~moves].mean() < 0.4 * picture[~moves].mean()
    names = list(seen)
    assert names[0] == "rgb" and names[-1] == "input"  # what the viewer begins with, alone and split


@torch.no_grad()
def test_the_movers_of_a_frame_are_drawn_from_its_own_place_only(viewer, panel, demo_video):
    model = viewer.pipeline.model
    panel.choose_frame(FRAME)
    panel.shown.value, moves = MOVES, torch.from_numpy(demo_video.estimate.dynamic_probability[FRAME] > 0)
    picture = torch.from_numpy(demo_video.images[FRAME] / 255.0).float()
    at_frame = panel.outputs(model, camera_of(viewer.pipeline))["rgb"]
    assert (at_frame - picture)[moves].abs().mean() < 1e-3
    panel.with_frame.value = False
    assert (panel.outputs(model, camera_of(viewer.pipeline))["rgb"] - picture)[moves].abs().mean() > 0.02
    panel.with_frame.value = True
    elsewhere = camera_of(viewer.pipeline, 0)
    with_frame = panel.outputs(model, elsewhere)["rgb"]
    panel.with_frame.value = False
    assert torch.equal(with_frame, panel.outputs(model, elsewhere)["rgb"])


def test_a_frame_is_seen_by_a_camera_that_turns_and_not_by_one_that_looks_away(viewer, panel):
    camera = camera_of(viewer.pipeline)
    picture, _, inside = panel.frames.seen_from(camera, FRAME)
    assert inside.all()
    turned = camera_of(viewer.pipeline)
    angle = np.arctan(40 / float(camera.fx))  # the middle of the picture comes 40 pixels to the left
    turn = torch.tensor([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]]).float()
    turned.camera_to_worlds = torch.cat(
        [camera.camera_to_worlds[0, :, :3] @ turn, camera.camera_to_worlds[0, :, 3:]], 1
    )[None]
    shifted, _, inside = panel.frames.seen_from(turned, FRAME)
    torch.testing.assert_close(
        shifted[44:46, 39:41].mean((0, 1)), picture[44:46, 79:81].mean((0, 1)), atol=0.02, rtol=0
    )
    assert inside[45, 20].all() and not inside[45, 158].any()
    turned.camera_to_worlds = camera.camera_to_worlds * torch.tensor([-1.0, 1.0, -1.0, 1.0])
    assert not panel.frames.seen_from(turned, FRAME)[2].any()


def test_all_cameras_are_in_view_from_behind(viewer, panel):
    client = client_of(aspect=1.5)
    panel._stand_back(client)
    c2w_gl = np.vstack([viewer.get_camera_state(client).c2w.numpy(), [0, 0, 0, 1]])
    for index in range(len(panel.frames)):
        x, y, z = (np.linalg.inv(c2w_gl) @ panel.frames.c2w_cv(index)[:, 3])[:3]
        half = np.tan(client.camera.fov / 2)
        assert z < 0 and abs(y) < -z * half and abs(x) < -z * half * 1.5


def test_a_frame_chosen_shows_beside_its_render(viewer, panel):
    before = panel.thumbnail.content
    assert len(panel.frames) == 12
    panel.choose_frame(99)  # the slider of a video of one frame goes one too far
    assert viewer.current_camera_idx == 11 and "00011.png" in panel.thumbnail.content != before
    assert not viewer.camera_handles[0].visible and viewer.show_images.visible
    panel.compare.value = True
    panel._compare(panel.compare)
    assert viewer.control_panel.split and viewer.control_panel.split_output_render == "input"
    panel._go_back()
    assert viewer.camera_handles[0].visible and viewer.hide_images.visible and not viewer.show_images.visible
    panel._after_click(3)
    assert viewer.current_camera_idx == panel.frame.value == 3


def test_only_depth_is_stretched_to_the_colormap(viewer):
    controls = viewer.control_panel
    for output in ("depth", "staticness", "dynamic_probability"):
        controls._output_render.cb_hook(SimpleNamespace(value=output))
        controls._split_output_render.cb_hook(SimpleNamespace(value=output))
        assert controls.colormap_options.normalize == controls.split_colormap_options.normalize == (output == "depth")


def rendered(viewer: Viewer) -> list[dict]:
    """What the viewer renders for a client, in a thread of its own; nothing if the render was broken off."""
    outputs: list[dict] = []

    class OneRender(RenderStateMachine):
        def run(self) -> None:
            with suppress(IOChangeException):
                outputs.append(self._render_img(viewer.get_camera_state(self.client)))

    thread = OneRender(viewer, VISER_NERFSTUDIO_SCALE_RATIO, client_of(aspect=1.5))
    thread.start()
    thread.join()
    return outputs


@torch.no_grad()
def test_evaluations_do_not_hear_of_the_controls(viewer, panel):
    model = viewer.pipeline.model
    plain = model.get_outputs_for_camera(camera_of(viewer.pipeline))
    panel.threshold.value = 1.0
    again = model.get_outputs_for_camera(camera_of(viewer.pipeline))
    assert all(torch.equal(again[name], plain[name]) for name in plain)
    (seen,) = rendered(viewer)
    assert "input" in seen and seen["accumulation"].max() == 0


def test_a_render_is_not_broken_off_in_the_middle(viewer, monkeypatch):
    render = viewer.pipeline.model.render

    def render_while_the_camera_moves(*args: Any, **kwargs: Any) -> Any:
        threading.current_thread().interrupt_render_flag = True  # pyright: ignore[reportAttributeAccessIssue]
        return render(*args, **kwargs)

    monkeypatch.setattr(viewer.pipeline.model, "render", render_while_the_camera_moves)
    assert len(rendered(viewer)) == 1


def test_the_paper_s_model_has_the_same_controls(make_trainer):
    trainer = make_trainer(paper=True)
    model = trainer.pipeline.model.eval()
    panel = model.viewer_panel
    accumulation = {}
    with torch.no_grad():
        for shown in (STATIC, EVERYTHING, MOVES):
            panel.shown.value = shown
            accumulation[shown] = panel.outputs(model, camera_of(trainer.pipeline))["accumulation"].mean()
    assert min(accumulation.values()) > 0 and accumulation[EVERYTHING] == max(accumulation.values())
