"""The camera's path as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from das3r_ns.scene.estimate import CameraKind, SceneEstimate

SIZES: dict[CameraKind, tuple[float, float]] = {"general": (12, 6.2), "rotation": (7.2, 6.6), "tripod": (8, 3.2)}
"""Width and height of the picture, in hundreds of pixels."""
COLOURS = "plasma"
LABELS = 8
"""Frame numbers along the path, at most."""
LABEL_DISTANCE = 0.07
"""Between two of them, of the plot's side."""
GAZE = 0.08
"""Length of a stroke that shows where the camera looks, of the plot's side."""


def draw_trajectory(estimate: SceneEstimate, path: Path, title: str) -> None:
    """Draw the camera's path from above and from the side, at one scale, with frame numbers and colour over time.

    "Up" is the mean of the cameras' own, "ahead" where the first one looks. A camera that only turned has no path: what
    is drawn is where it looked. One that stood still has neither, and the picture says so.

    Args:
        estimate: Whose cameras.
        path: PNG file to write.
        title: First line of the picture.
    """
    figure = Figure(figsize=SIZES[estimate.camera_kind], dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = world_axes(estimate.c2w_cv)
    if estimate.camera_kind == "tripod":
        text = "The camera stood still (tripod): there is no path to draw."
        figure.text(0.5, 0.4, text, ha="center", va="center", fontsize=15, color="#68727f")
        note = "All frames were taken from one place, in one direction."
    elif estimate.camera_kind == "rotation":
        note = _draw_directions(figure, estimate, axes)
    else:
        note = _draw_path(figure, estimate, axes)
    figure.suptitle(f"{title}\n{note}", fontsize=13, parse_math=False)  # the name of a video may have dollars in it
    canvas.print_png(str(path))


def world_axes(c2w_cv: Float[np.ndarray, "N 4 4"]) -> Float[np.ndarray, "3 3"]:
    """Rows right, ahead, up: unit vectors in the world of the cameras."""
    up = -c2w_cv[:, :3, 1].mean(axis=0)
    if np.linalg.norm(up) < 1e-3:  # a camera that rolled right round
        up = -c2w_cv[0, :3, 1]
    up = up / np.linalg.norm(up)
    # The first camera's right is level unless it stands on its side; then its down is.
    ahead = max((np.cross(up, c2w_cv[0, :3, column]) for column in (0, 1)), key=lambda v: float(np.linalg.norm(v)))
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([np.cross(ahead, up), ahead, up])


def _draw_path(figure: Figure, estimate: SceneEstimate, axes: Float[np.ndarray, "3 3"]) -> str:
    """Both views; returns what is said of the path."""
    centres = (estimate.c2w_cv[:, :3, 3] - estimate.c2w_cv[0, :3, 3]) @ axes.T
    gaze = estimate.c2w_cv[:, :3, 2] @ axes.T
    span = 1.25 * float(np.ptp(centres, axis=0).max()) or 1.0
    above, side = figure.subplots(1, 2)
    for plot, (x, y), name, labels in (
        (above, (0, 1), "seen from above", ("to the right", "ahead")),
        (side, (1, 2), "seen from the side", ("ahead", "up")),
    ):
        _draw_line(plot, centres[:, [x, y]], span, gaze[:, [x, y]])
        plot.set(title=name, xlabel=labels[0], ylabel=labels[1])
    _colour_bar(figure, [above, side])
    length = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
    static = estimate.not_static[:, ::4, ::4] < 0.5
    distance = float(np.median(estimate.depth[:, ::4, ::4][static])) if static.any() else float("nan")
    return f"The path is {length:#.3g} long, what it sees {distance:#.3g} away (median), in the unit of poses.txt."


def _draw_directions(figure: Figure, estimate: SceneEstimate, axes: Float[np.ndarray, "3 3"]) -> str:
    """Pan and tilt; returns what is said of them."""
    right, ahead, up = (estimate.c2w_cv[:, :3, 2] @ axes.T).T
    pan = np.degrees(np.unwrap(np.arctan2(right, ahead)))
    tilt = np.degrees(np.arcsin(up.clip(-1, 1)))
    plot = figure.subplots()
    directions = np.stack([pan, tilt], axis=1)
    span = 1.25 * float(np.ptp(directions, axis=0).max()) or 1.0
    _draw_line(plot, directions, span, None)
    plot.set(title="where it looked", xlabel="degrees to the right", ylabel="degrees up")
    _colour_bar(figure, [plot])
    return "The camera turned and did not travel: there is no path to draw."


def _draw_line(
    plot: Axes, points: Float[np.ndarray, "N 2"], span: float, gaze: Float[np.ndarray, "N 2"] | None
) -> None:
    """Points joined in order, coloured over time, in a square of side ``span``."""
    count = len(points)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    plot.set_aspect("equal", adjustable="box")
    plot.set_xlim(centre[0] - span / 2, centre[0] + span / 2)
    plot.set_ylim(centre[1] - span / 2, centre[1] + span / 2)
    plot.grid(True, color="#e2e6ec")
    plot.set_axisbelow(True)
    plot.locator_params(nbins=6)
    if gaze is not None:
        chosen = np.unique(np.linspace(0, count - 1, 3 * LABELS).round().astype(int))
        strokes = np.stack([points[chosen], points[chosen] + GAZE * span * gaze[chosen]], axis=1)
        plot.add_collection(LineCollection(list(strokes), colors="#9aa3af", linewidths=1))
    segments = np.stack([points[:-1], points[1:]], axis=1)
    time = np.arange(count)
    line = LineCollection(list(segments), cmap=COLOURS, linewidths=2.5, capstyle="round")
    line.set_array(time[:-1])
    line.set_clim(0, count - 1)
    plot.add_collection(line)
    plot.scatter(points[:, 0], points[:, 1], c=time, cmap=COLOURS, vmin=0, vmax=count - 1, s=12, zorder=3)
    for number in _labelled(points, span):
        place = (points[number, 0], points[number, 1])
        text = plot.annotate(str(number), place, (6, 6), textcoords="offset points", fontsize=10, zorder=4)
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _labelled(points: Float[np.ndarray, "N 2"], span: float) -> list[int]:
    """Frames whose numbers are written: the first, the last, and those between that keep clear of the others."""
    last = len(points) - 1
    chosen: list[int] = []
    for number in [0, last, *np.linspace(0, last, LABELS).round().astype(int).tolist()]:
        near = np.linalg.norm(points[chosen] - points[number], axis=1) < LABEL_DISTANCE * span
        if not near.any():
            chosen.append(number)
    return chosen


def _colour_bar(figure: Figure, plots: list[Axes]) -> None:
    ticks = MaxNLocator(integer=True)
    figure.colorbar(plots[0].collections[-1], ax=plots, shrink=0.8, pad=0.02, ticks=ticks, label="frame")
