"""Writes the clean plates of a trained run: pictures, maps and a film."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from das3r_ns.cleanplate.composite import blend, disk, length, replaced_pixels
from das3r_ns.cleanplate.foreground import foreground, linear_foreground
from das3r_ns.cleanplate.holes import ever_seen
from das3r_ns.cleanplate.page import PAGE, frames_shown, write_page
from das3r_ns.files import check_output_directory, replace_directory
from das3r_ns.frontend.prepared import PreparedScene
from das3r_ns.frontend.report.write import write_video
from das3r_ns.pictures import ImageFormat, check_image_format, write_exr, write_picture, write_png
from das3r_ns.progress import Progress
from das3r_ns.scene.cache import read_frame, writing
from das3r_ns.scene.static_weight import MASK_THRESHOLD
from das3r_ns.trained.scene import TrainedScene
from das3r_ns.workers import workers

MARKER = "clean-plate.json"
"""Holds where the folder's content comes from; tells our folders from others."""
FOLDERS = ("frames", "render", "holes", "sources")
FOREGROUND = "foreground"
FILM = "clean.mp4"
FROM_FRAME, FROM_RENDER, UNCONFIRMED, HOLE = 0, 85, 170, 255
"""Values in ``sources/``: the frame's own pixel, to the bit; the render; the render of something that no frame
confirms; never seen (flat, or inpainted)."""
HOLE_COLOUR = 128
OPAQUE = 0.5
"""Accumulation below which the splats draw nothing to speak of."""
PIXEL_MEMORY = 160
"""Bytes for each pixel of a plate that is put together."""

Fixed = Literal["keep", "remove"]
"""What is fixed to the camera (a bonnet, a logo) stays in the plates, or gives way to the scene as what moves does."""

T = TypeVar("T")


@dataclass(frozen=True)
class PlateSettings:
    """What to do with what no frame ever saw, and what else to write."""

    fill_holes: bool = False
    """Paint holes with their surroundings (OpenCV's inpainting) instead of flat grey."""
    strict_holes: bool = False
    """Also count as a hole what the splats draw but no frame confirms."""
    foreground: bool = False
    """Also write what moves, cut out."""
    image_format: ImageFormat = "png"
    """Of the pictures."""
    fixed: Fixed = "keep"
    """What becomes of what is fixed to the camera."""


@dataclass(frozen=True)
class StaticViews:
    """The static scene in every frame at the working resolution, to know what is seen where."""

    depth: Float[np.ndarray, "N H W"]
    """Rendered camera z, float32."""
    shown: Bool[np.ndarray, "N H W"]
    """Whether the frame shows the static scene there."""
    intrinsics: Float[np.ndarray, "N 3 3"]
    c2w_cv: Float[np.ndarray, "N 4 4"]
    video: PreparedScene
    """By whose lens and shutter the video shows them."""

    @classmethod
    def of(cls, scene: TrainedScene, advance: Callable[[], None]) -> StaticViews:
        """Render every frame of a run."""
        size = scene.working_size
        depth, shown = [], []
        for number, path in enumerate(scene.video.image_paths):
            outputs = scene.render_at_working_size(number)
            frame = read_frame(path).astype(np.float32) / 255
            replaced = _replaced(scene, scene.static_weight(number, size), outputs, frame)
            depth.append(outputs["depth"][..., 0])
            shown.append(~replaced & (outputs["accumulation"][..., 0] >= OPAQUE))
            advance()
        seen = np.stack(shown)
        if scene.video.estimate.fixed is not None:
            seen &= ~scene.video.estimate.fixed
        return cls(np.stack(depth), seen, scene.intrinsics(size), scene.c2w_cv(), scene.video)

    def unseen(self, number: int, replaced: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """Which replaced pixels of a frame show a point that no frame sees: of the video, at its size."""
        height, width = self.shown.shape[1:]
        level = self.video.levelled(replaced.astype(np.float32), number)
        wanted = cv2.resize(level, (width, height), interpolation=cv2.INTER_AREA) > 0
        unseen = wanted & ~ever_seen(number, wanted, self.shown, self.depth, self.intrinsics, self.c2w_cv)
        # Single pixels are misses of the comparison at the edges of things, not holes.
        speck = disk(length(1.0, (width, height)))
        opened = cv2.morphologyEx(unseen.astype(np.uint8), cv2.MORPH_OPEN, speck).astype(np.float32)
        return replaced & (self.video.as_filmed(opened, number) >= 0.5)


@dataclass(frozen=True)
class CleanPlate:
    """One frame without what moves; RGB."""

    image: UInt8[np.ndarray, "H W 3"]
    """The composite."""
    render: UInt8[np.ndarray, "H W 3"]
    """The static scene alone."""
    sources: UInt8[np.ndarray, "H W"]
    """Where each pixel of the composite comes from: FROM_FRAME, FROM_RENDER, UNCONFIRMED or HOLE."""

    @property
    def holes(self) -> UInt8[np.ndarray, "H W"]:
        """255 where no frame ever saw what belongs there."""
        return np.where(self.sources == HOLE, 255, 0).astype(np.uint8)


def clean_plate(
    views: StaticViews,
    number: int,
    frame: UInt8[np.ndarray, "H W 3"],
    outputs: Mapping[str, Float[np.ndarray, "H W C"]],
    replaced: Bool[np.ndarray, "H W"],
    settings: PlateSettings | None = None,
) -> CleanPlate:
    """The clean plate of one frame, from what the model has said of it: work for any thread.

    Args:
        views: Of all frames.
        number: Number of the frame.
        frame: The frame at the size of the video, RGB.
        outputs: The model's at its camera.
        replaced: Which of its pixels do not show the static scene.
        settings: What to do with holes.
    """
    settings = settings or PlateSettings()
    size = (frame.shape[1], frame.shape[0])
    render, target = outputs["rgb"], frame.astype(np.float32) / 255
    unseen, empty = views.unseen(number, replaced), outputs["accumulation"][..., 0] < OPAQUE
    beyond = views.video.beyond(number)
    if beyond is not None:
        unseen |= replaced & empty & beyond  # not trained, and not known of each other's views
    hole = unseen if settings.strict_holes else unseen & empty
    sources = np.full(replaced.shape, FROM_FRAME, np.uint8)
    sources[replaced] = FROM_RENDER
    sources[unseen] = UNCONFIRMED
    sources[hole] = HOLE
    image = np.rint(blend(target, render, replaced) * 255).astype(np.uint8)
    image = np.where(replaced[..., None], image, frame)
    image[hole] = HOLE_COLOUR
    if settings.fill_holes and hole.any() and not hole.all():
        filled = cv2.inpaint(image, hole.astype(np.uint8), length(2.0, size), cv2.INPAINT_TELEA)
        image[hole] = filled[hole]
    return CleanPlate(image, np.rint(render * 255).astype(np.uint8), sources)


def _replaced(
    scene: TrainedScene,
    weight: Float[np.ndarray, "H W"],
    outputs: Mapping[str, Float[np.ndarray, "H W C"]],
    target: np.ndarray,
) -> Bool[np.ndarray, "H W"]:
    return replaced_pixels(weight, outputs["rgb"], target, scene.pipeline.device)


def _side_by_side(function: Callable[..., T], arguments: Iterable[tuple[Any, ...]], threads: int) -> Iterator[T]:
    """``function`` of each of the arguments, in their order, on threads; no more arguments are drawn than are at work.

    Args:
        function: Releases Python's lock.
        arguments: Drawn in the thread of the caller.
        threads: How many.
    """
    at_work: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for those in arguments:
            at_work.append(pool.submit(function, *those))
            if len(at_work) > threads:
                yield at_work.popleft().result()
        while at_work:
            yield at_work.popleft().result()


def _write_foreground(
    path: Path,
    frame: UInt8[np.ndarray, "H W 3"],
    plate: CleanPlate,
    moves: Float[np.ndarray, "H W"],
    image_format: ImageFormat,
) -> None:
    replaced = plate.sources != FROM_FRAME
    cut = foreground(frame, plate.image, moves, replaced)
    if image_format == "exr":
        write_exr(path.with_name(path.name + ".exr"), linear_foreground(frame, plate.image, cut.matte, replaced))
    else:
        write_png(path.with_name(path.name + ".png"), cut.rgba[..., [2, 1, 0, 3]])


def write_clean_plates(
    scene: TrainedScene, directory: Path, settings: PlateSettings | None = None, progress: Progress | None = None
) -> None:
    """Write ``frames/``, ``render/``, ``holes/`` and ``sources/``, a picture per frame at the video's size, a film,
    and a page that shows some frames before and after; ``foreground/`` where it is asked for. All of it has the
    geometry of the video, distortion and all.

    The model renders frame after frame; threads put together and write those that it has rendered, a few at a time, so
    that memory does not grow with the size of the video. Pictures that the video repeats are written again, and the
    film has the times of the video. The folder appears when it is complete.

    Args:
        scene: A trained run.
        directory: Folder to write; earlier clean plates in it are replaced.
        settings: What to do with holes.
        progress: Where to report; to stderr if None.

    Raises:
        Das3rError: The folder holds something else or cannot be written, a frame cannot be read, or EXR cannot be had.
    """
    settings, progress = settings or PlateSettings(), progress or Progress()
    directory = directory.resolve()
    check_output_directory(directory, MARKER)
    check_image_format(settings.image_format)
    frames = scene.frames()  # who has none any more is told before the scene is rendered
    width, height = scene.video.original_size
    count, showings = scene.num_frames, scene.video.showings
    places: list[list[int]] = [[] for _ in range(count)]
    for place, (_, number) in enumerate(showings):
        places[number].append(place)
    with progress.stage("Finding what each frame sees", count) as advance:
        views = StaticViews.of(scene, advance)
    names = scene.video.estimate.frame_names
    shown: dict[int, Any] = dict.fromkeys(frames_shown(count))
    totals = dict.fromkeys((FROM_FRAME, FROM_RENDER, UNCONFIRMED, HOLE), 0)
    pixel = (7 + 4 * settings.foreground) * (2 if settings.image_format == "exr" else 1)
    with writing(directory, pixel * len(showings) * width * height) as temporary:
        for folder in (*FOLDERS, FOREGROUND) if settings.foreground else FOLDERS:
            (temporary / folder).mkdir()

        def written(number: int, frame: Any, outputs: Any, replaced: Any) -> CleanPlate:
            plate = clean_plate(views, number, frame, outputs, replaced, settings)
            pictures = (plate.image, plate.render, plate.holes, plate.sources)
            for folder, picture in zip(FOLDERS, pictures, strict=True):
                write_picture(temporary / folder / f"{places[number][0]:05d}", picture, settings.image_format)
            if settings.foreground:
                first = temporary / FOREGROUND / f"{places[number][0]:05d}"
                moves = 1 - scene.static_weight_as_filmed(number)
                _write_foreground(first, frame, plate, moves, settings.image_format)
            for folder in (*FOLDERS, FOREGROUND) if settings.foreground else FOLDERS:
                first, *again = (
                    temporary / folder / f"{place:05d}.{settings.image_format}" for place in places[number]
                )
                for copy in again:
                    shutil.copyfile(first, copy)
            if number in shown:
                shown[number] = (names[number], frame, plate.image)
            return plate

        fixed = scene.video.fixed_as_filmed()

        def rendered() -> Iterator[tuple[Any, ...]]:
            for number, frame in enumerate(frames):
                outputs, weight = scene.render_as_filmed(number), scene.static_weight_as_filmed(number)
                replaced = _replaced(scene, weight, outputs, frame.astype(np.float32) / 255)
                beyond = views.video.beyond(number)
                if beyond is not None:
                    # Never trained there: the render cannot tell, and the front end's mask goes on as at the edge.
                    replaced = np.where(beyond, weight < MASK_THRESHOLD, replaced)
                if fixed is not None:
                    replaced = replaced & ~fixed if settings.fixed == "keep" else replaced | fixed
                yield number, frame, outputs, replaced

        def plates(advance: Callable[[], None]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
            for number, plate in enumerate(_side_by_side(written, rendered(), workers(PIXEL_MEMORY * width * height))):
                for source in totals:
                    totals[source] += int((plate.sources == source).sum())
                yield from [plate.image] * len(places[number])
                advance()

        with progress.stage("Writing clean plates", count) as advance:
            fps, times = scene.video.fps * len(showings) / count, [seconds for seconds, _ in showings]
            write_video(temporary / FILM, plates(advance), fps, bits=40, times=times)
        write_page(temporary / PAGE, scene.video.title, filter(None, shown.values()))
        kinds = {FROM_FRAME: "frame", FROM_RENDER: "render", UNCONFIRMED: "unconfirmed", HOLE: "hole"}
        pixels = max(sum(totals.values()), 1)
        summary = {
            "data": str(scene.video.data),
            "frame_names": [names[number] for _, number in showings],
            "seconds": times,
            "fps": fps,
            "holes": "inpainted" if settings.fill_holes else "flat",
            "sources": {kinds[value]: value for value in kinds},
            "percent": {kinds[value]: round(100 * total / pixels, 3) for value, total in totals.items()},
        }
        (temporary / MARKER).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        replace_directory(temporary, directory)
    shares = ", ".join(f"{name} {share:.1f} %" for name, share in summary["percent"].items())
    progress.say(f"Pixels from: {shares}.")
