"""What nerfstudio's viewer offers for a das3r scene, in ns-viewer and while training.

The folder "das3r" at the top of its panel: which Gaussians are drawn, and a walk through the frames of the video. A
scene of Gaussians has no time and training leaves what moves out of it, so what moved is shown by the frame chosen.
"""

from __future__ import annotations

import base64
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import viser
import viser.transforms as vtf
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.viewer.render_state_machine import RenderStateMachine
from nerfstudio.viewer.viewer import VISER_NERFSTUDIO_SCALE_RATIO
from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerCheckbox,
    ViewerControl,
    ViewerDropdown,
    ViewerSlider,
)
from torch import Tensor

from das3r_ns.rasterization.cpu_settings import cpu_settings
from das3r_ns.splats.camera import scaled_intrinsics
from das3r_ns.splats.viewed_frames import Frames, ViewedModel

if TYPE_CHECKING:
    from nerfstudio.viewer.viewer import Viewer

STATIC, EVERYTHING, MOVES = "static", "everything", "only what moves"
THUMBNAIL_WIDTH = 480
"""Pixels of the frame in the panel; the panel is some 300 wide, twice that on fine screens."""
FOLLOW_EVERY = 2.0
"""Seconds between two looks at where training has moved the cameras."""
_DIMMED = 0.25
"""Brightness of what stands still in the output ``input_moving``."""


class ViewerPanel(ViewerControl):
    """The folder "das3r" in the viewer, and the outputs that it asks of the model.

    Nerfstudio's viewer finds it as an attribute of the model and calls :meth:`_setup`. Without a viewer it does
    nothing; with one, it acts on what the viewer's own threads render and on nothing else.
    """

    def __init__(self) -> None:
        self.frames: Frames | None = None
        self._placed: Float[np.ndarray, "N 4 4"] | None = None
        self._follow_at = 0.0
        self.shown = ViewerDropdown(
            "Show",
            STATIC,
            [STATIC, EVERYTHING, MOVES],
            hint="static: the clean scene, as it is exported. everything: as if all of it were static. "
            "only what moves: what is under the staticness threshold, or under 0.5 where that is 0.",
        )
        self.threshold = ViewerSlider(
            "Threshold",
            0.0,
            0.0,
            1.0,
            0.01,
            hint="Gaussians of this staticness or less are not static: hidden, or alone shown with 'only what moves'. "
            "0: no threshold, the scene as it is exported.",
        )
        self.with_frame = ViewerCheckbox(
            "Frame's movers",
            True,
            hint="With 'everything' and 'only what moves', also draw what moves in the frame chosen, as long as you "
            "stand where it was taken. Training removes what moves from the scene, so little else may be left of it.",
        )
        self.compare = ViewerCheckbox(
            "Input beside it",
            False,
            hint="The render on the left, the frame chosen on the right, as seen from where it was taken. "
            "'Split Screen' below says where they meet and what they show.",
        )
        self.frame: ViewerSlider | None = None
        self.go_to_frame = ViewerButton("Go to frame", lambda _: self._go_to_frame())
        self.go_back = ViewerButton("See all cameras", lambda _: self._go_back())

    def _setup(self, viewer: Viewer) -> None:
        super()._setup(viewer)
        dataset = viewer.pipeline.datamanager.train_dataset
        assert dataset is not None
        self.frames = Frames(viewer.pipeline.model, dataset)  # pyright: ignore[reportArgumentType]
        self.frame = ViewerSlider("Frame", 0, 0, max(len(dataset) - 1, 1), 1, hint="Stand where this frame was taken.")
        # Nerfstudio puts a model's own controls below all others, which is below the edge of most screens.
        with viewer.viser_server.gui.add_folder("das3r", order=viewer.stats_markdown.order + 0.5):
            for element in (self.shown, self.threshold, self.with_frame, self.frame, self.compare):
                element.install(viewer.viser_server)
            self.go_to_frame.install(viewer.viser_server)
            self.go_back.install(viewer.viser_server)
            self.thumbnail = viewer.viser_server.gui.add_markdown("", image_root=Path())
        for element in (self.shown, self.threshold, self.with_frame):
            element.cb_hook = lambda _: viewer._trigger_rerender()
        self.frame.cb_hook = lambda slider: self.choose_frame(slider.value)
        self.compare.cb_hook = self._compare
        self._keep_probabilities_on_their_scale()
        self._show_thumbnail()
        # Nerfstudio's own applies SO3xR3 corrections to the wrong side, and ns-viewer never calls it.
        viewer.update_camera_poses = self._follow_training
        init_scene = viewer.init_scene

        def init_and_follow(*args: Any, **kwargs: Any) -> None:
            init_scene(*args, **kwargs)
            self._placed = None
            self.place_cameras()
            self._follow_clicks()

        viewer.init_scene = init_and_follow
        viewer.viser_server.on_client_connect(self._stand_back)

    def is_rendering(self) -> bool:
        """Whether this thread renders for the viewer: evaluations in between its pictures are not its business."""
        return isinstance(threading.current_thread(), RenderStateMachine)

    # What is rendered.

    def outputs(self, model: ViewedModel, camera: Cameras) -> dict[str, Tensor]:
        """Everything the viewer can show of one camera, the controls taken into account.

        ``input`` is the frame chosen, ``input_moving`` the same with what stands still dimmed (see
        :meth:`Frames.seen_from`); the rest is as in :meth:`ViewedModel.evaluation_outputs`, of the Gaussians shown.

        Args:
            model: The model.
            camera: One camera. Its metadata is dropped: nerfstudio names the frame visited last wherever the camera is,
                and the pose refinement of that frame is not its own.
        """
        camera.metadata = None
        if self.is_rendering():
            # Nerfstudio traces the thread to break it off at any line of Python when the camera moves. In the middle of
            # numba's imports, say, that leaves a thread that can never render again; and a render is soon done.
            sys.settrace(None)
        with cpu_settings() if model.device.type == "cpu" else nullcontext():
            return self._outputs(model, camera)

    def _outputs(self, model: ViewedModel, camera: Cameras) -> dict[str, Tensor]:
        shown = self.shown.value
        outputs = model.evaluation_outputs(camera, self._chosen(model), raw=shown != STATIC)
        background = outputs.pop("background")
        if self.frames is None:
            return outputs
        frame = self.viewer.current_camera_idx
        image, static_weight, inside = self.frames.seen_from(camera, frame)
        moves = torch.where(inside, 1 - static_weight, 0.0)
        if shown != STATIC and self.with_frame.value and self.frames.is_at(camera, frame):
            outputs["rgb"] = torch.lerp(outputs["rgb"], image, moves)
        dimmed = torch.lerp(_DIMMED * image.mean(dim=-1, keepdim=True).expand_as(image), image, moves)
        # The last one is what nerfstudio's split screen begins with.
        outputs["input_moving"] = torch.where(inside, dimmed, background)
        outputs["input"] = torch.where(inside, image, background)
        return outputs

    def _chosen(self, model: ViewedModel) -> Bool[Tensor, " N"] | None:
        shown, threshold = self.shown.value, self.threshold.value
        if shown == EVERYTHING or (shown == STATIC and threshold == 0):
            return None
        staticness = model.staticness.flatten()
        if shown == STATIC:
            return staticness > threshold
        return staticness < 0.5 if threshold == 0 else staticness <= threshold

    def _keep_probabilities_on_their_scale(self) -> None:
        # The panel's "Normalize" stretches what is shown to the whole colormap: right for depth, but of a staticness
        # that is 0.98 everywhere it makes noise that looks like structure. Either is only a start.
        panel = self.viewer.control_panel
        for output, normalize in (
            (panel._output_render, panel._normalize),
            (panel._split_output_render, panel._split_normalize),
        ):

            def on_change(element: Any, before: Any = output.cb_hook, normalize: ViewerCheckbox = normalize) -> None:
                normalize.value = element.value == "depth"
                before(element)

            output.cb_hook = on_change

    def _compare(self, element: ViewerCheckbox) -> None:
        panel = self.viewer.control_panel
        if element.value:
            panel._split_output_render.value = "input"
            self._go_to_frame()
        panel._split.value = element.value

    # Where the viewer stands.

    def choose_frame(self, index: int) -> None:
        """Make ``index`` the frame shown, and stand every client where it was taken."""
        assert self.frames is not None
        index = min(index, len(self.frames) - 1)
        if index != self.viewer.current_camera_idx:
            self.viewer.current_camera_idx = index
            self._show_thumbnail()
            self._go_to_frame()

    def _go_to_frame(self) -> None:
        self._show_cameras(False)  # the frame's own picture would stand between the viewer and the scene
        for client in self.viser_server.get_clients().values():
            self._stand_at_frame(client)

    def _go_back(self) -> None:
        self._show_cameras(True)
        for client in self.viser_server.get_clients().values():
            self._stand_back(client)

    def _show_cameras(self, visible: bool) -> None:
        self.viewer.set_camera_visibility(visible)
        self.viewer.hide_images.visible = visible
        self.viewer.show_images.visible = not visible

    def _stand_at_frame(self, client: viser.ClientHandle) -> None:
        assert self.frames is not None
        index = self.viewer.current_camera_idx
        k, width, height = scaled_intrinsics(self.frames.camera(index), 1)
        half = max(float(height / 2 / k[0, 1, 1]), float(width / 2 / k[0, 0, 0]) / client.camera.aspect)
        self._look(client, self.frames.c2w_cv(index), 2 * np.arctan(half))

    def _stand_back(self, client: viser.ClientHandle) -> None:
        """Behind the cameras, looking their way, so that all of them are in view with the scene before them."""
        assert self.frames is not None
        poses = self.frames.all_c2w_cv()
        view, centres = poses[len(poses) // 2].copy(), poses[:, :3, 3]
        centre = centres.mean(axis=0)
        spread = np.linalg.norm(centres - centre, axis=1).max()
        frustum = self.viewer.config.camera_frustum_scale / VISER_NERFSTUDIO_SCALE_RATIO
        view[:3, 3] = centre - 2 * (spread + 2 * frustum) * view[:3, 2]
        self._look(client, view, np.deg2rad(60))

    def _look(self, client: viser.ClientHandle, c2w_cv: Float[np.ndarray, "4 4"], fov: float) -> None:
        assert self.frames is not None
        distance = self.frames.distance(np.linalg.inv(c2w_cv))  # the mouse turns the view about what is there
        with client.atomic():
            client.camera.position = c2w_cv[:3, 3] * VISER_NERFSTUDIO_SCALE_RATIO
            client.camera.look_at = (c2w_cv[:3, 3] + distance * c2w_cv[:3, 2]) * VISER_NERFSTUDIO_SCALE_RATIO
            client.camera.up_direction = -c2w_cv[:3, 1]
            client.camera.fov = fov

    def place_cameras(self) -> None:
        """Put the cameras shown in the scene where the model has refined them to; those that have not moved stay."""
        assert self.frames is not None
        poses, before = self.frames.all_c2w_cv(), self._placed
        for index, handle in self.viewer.camera_handles.items():
            if before is None or not np.array_equal(poses[index], before[index]):
                handle.position = poses[index, :3, 3] * VISER_NERFSTUDIO_SCALE_RATIO
                handle.wxyz = vtf.SO3.from_matrix(poses[index, :3, :3]).wxyz
        self._placed = poses

    def _follow_training(self) -> None:
        # Called in the training's own thread, which waits for the device and for the messages to the browsers.
        if time.monotonic() >= self._follow_at:
            self.place_cameras()
            self._follow_at = time.monotonic() + FOLLOW_EVERY

    def _follow_clicks(self) -> None:
        # Nerfstudio's own answer to a click on a camera leaves the angle of view alone.
        for index, handle in self.viewer.camera_handles.items():
            handle.on_click(lambda _, index=index: self._after_click(index))

    def _after_click(self, index: int) -> None:
        assert self.frame is not None
        self.viewer.current_camera_idx = index
        self._go_to_frame()
        self.frame.value = index
        self._show_thumbnail()

    def _show_thumbnail(self) -> None:
        assert self.frames is not None
        index = self.viewer.current_camera_idx
        image = (self.frames.picture(index)[0].cpu().numpy() * 255).astype(np.uint8)
        size = (THUMBNAIL_WIDTH, max(1, round(THUMBNAIL_WIDTH * image.shape[0] / image.shape[1])))
        small = cv2.resize(image[..., ::-1], size, interpolation=cv2.INTER_AREA)
        jpeg = base64.b64encode(cv2.imencode(".jpg", small)[1].tobytes()).decode()
        name = self.frames.dataset.image_filenames[index].name
        self.thumbnail.content = f"![frame {index}](data:image/jpeg;base64,{jpeg})\n\nInput: {name}"
