"""Masks of the user's own: found beside the frames, matched to them, and read as dynamic probability."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.pictures import read_picture
from das3r_ns.video.clip import THREADS, Clip
from das3r_ns.video.image_folder import SUBFOLDERS, file_digest, images_in, read_image

FOLDER = "masks"

COLOURED = 32
"""Difference between channels from which a pixel is the colour of a label, as in the annotations of DAVIS: it moves."""

NEARLY_BLACK = 8
"""Grey level up to which a mask that is not black is one that counts 0, 1, ... instead of 0 to 255."""

LEAST_STATIC = 0.01
"""Share of the video that must be static."""

MOSTLY_WHITE = 0.6
"""Share of white from which black and white may have been taken for each other."""

SAME_SHAPE = 0.03
"""Relative difference in the shape of the picture up to which a mask is one of the same picture."""


@dataclass(frozen=True)
class GivenMasks:
    """The mask files of a clip."""

    folder: Path
    """Where they lie; the file itself where one picture is the mask of all frames."""
    files: list[Path | None]
    """The mask of each frame used; None where it has none."""

    @property
    def described(self) -> str:
        """Which they are, in a few words."""
        if self.folder.is_file():
            return f"{self.folder} for all frames"
        return f"{len(self.files) - self.files.count(None)} of {self.folder}"

    @property
    def content_hash(self) -> str:
        """Hash of the files, and of which frames they belong to."""
        digest = hashlib.blake2b(digest_size=16)
        digests = {file: file_digest(file) for file in dict.fromkeys(self.files) if file is not None}
        for file in self.files:
            digest.update(bytes(16) if file is None else digests[file])
        return digest.hexdigest()


def masks_beside(clip: Clip) -> Path | None:
    """The folder ``masks`` in the folder of the frames, or beside it where that is called ``frames`` or ``images``."""
    candidates = []
    if clip.path.is_dir():
        candidates.append(clip.path / FOLDER)
        if clip.path.resolve().name in SUBFOLDERS:
            candidates.append(clip.path.resolve().parent / FOLDER)
    return next((folder for folder in candidates if folder.is_dir()), None)


def find_masks(clip: Clip, folder: Path | None, *, all_frames: bool) -> GivenMasks:
    """Match mask files to frames: by name, or by number where they are called 0, 1, 2, ...

    ``00003.png`` and ``00003.jpg.png`` (as COLMAP has it) are masks of ``00003.jpg``. Masks that are numbered from 0
    count the frames used, as ``das3r masks`` writes them, or all frames of the video.

    Args:
        clip: The frames.
        folder: Where the masks lie, or one picture that is the mask of all frames; None = beside the frames.
        all_frames: Whether every frame must have one.

    Raises:
        Das3rError: There is no such folder, it holds no pictures, or frames have no mask.
    """
    folder = folder or masks_beside(clip)
    if folder is None:
        raise Das3rError(
            f"There are no masks with {clip.path}: neither does it hold a folder {FOLDER}, nor is it called frames or "
            "images and has one beside it. Name the folder of your masks with --masks-dir."
        )
    if folder.is_file():
        return GivenMasks(folder, [folder] * len(clip.names))
    if not folder.is_dir():
        raise Das3rError(
            f"The folder of masks {folder} does not exist. Name one that holds a mask for each frame, or one picture "
            "for all of them."
        )
    found = images_in(folder)
    if not found:
        raise Das3rError(f"{folder} holds no masks (jpg, jpeg, png or webp). White = moves, one for each frame.")
    files = _match(clip, found)
    missing = [name for name, file in zip(clip.names, files, strict=True) if file is None]
    if len(missing) == len(files):
        raise Das3rError(
            f"None of the {len(found)} masks in {folder} (such as {found[0].name}) bears the name of one of the "
            f"{len(files)} frames of {clip.path} (such as {clip.names[0]}). Give them the names of the frames; if one "
            "picture is meant for all frames, name the file itself."
        )
    if missing and all_frames:
        shown = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        raise Das3rError(
            f"{folder} has {len(found)} masks for {len(files)} frames; none for {shown}. Add them, or let what moves "
            "be found in those frames with --masks joined."
        )
    return GivenMasks(folder, files)


def _match(clip: Clip, found: list[Path]) -> list[Path | None]:
    by_stem = {file.stem: file for file in found}
    named = [by_stem.get(Path(name).stem) or by_stem.get(name) for name in clip.names]
    if all(named) or not all(file.stem.isdecimal() for file in found):
        return named
    numbered = {int(file.stem): file for file in found}
    if sorted(numbered) == list(range(len(found))):
        if len(found) == len(named):
            return [numbered[i] for i in range(len(found))]
        if len(found) == clip.num_source_frames:
            return [numbered[i] for i in clip.indices]
    return named


def read_masks(
    masks: GivenMasks, size: tuple[int, int], say: Callable[[str], None] = lambda message: None
) -> Float[np.ndarray, "N H W"]:
    """Dynamic probability of every frame as the masks have it; NaN in frames without one.

    Masks may have any size and depth: grey is a probability, a colour says that it moves.

    Args:
        masks: From :func:`find_masks`.
        size: Width and height wanted.
        say: Tells the user what looks odd.

    Raises:
        Das3rError: A file cannot be read, or is no mask of this video; or nothing is static.
    """

    def read(file: Path | None) -> tuple[Float[np.ndarray, "H W"], float]:
        if file is None:
            return np.full(size[::-1], np.nan, dtype=np.float32), 0.0
        image = read_image(file)
        height, width = image.shape[:2]
        if abs(width * size[1] / (height * size[0]) - 1) > SAME_SHAPE:
            raise Das3rError(
                f"The mask {file} is {width} x {height} pixels, another shape than the frames ({size[0]} x {size[1]} "
                "where the front end works): it belongs to another picture, or is turned."
            )
        brightest = image.max(axis=-1)
        level = brightest.astype(np.float32) / 255
        level[brightest - image.min(axis=-1) > COLOURED] = 1.0
        shrinks = size[0] < width
        level = cv2.resize(level, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return level, float(brightest.max()) or _largest_of_16_bits(file)

    distinct = list(dict.fromkeys(masks.files))
    with ThreadPoolExecutor(THREADS) as pool:
        pictures = dict(zip(distinct, pool.map(read, distinct), strict=True))
    brightest = max(pictures[file][1] for file in distinct)
    if 0 < brightest <= NEARLY_BLACK:
        largest = f"{brightest:.0f} of 255" if brightest >= 1 else f"{257 * brightest:.0f} of 65535"
        raise Das3rError(
            f"The masks in {masks.folder} look black: their largest value is {largest}. If they count objects, make "
            "them white where something moves."
        )
    probability = np.stack([pictures[file][0] for file in masks.files])
    given = [i for i, file in enumerate(masks.files) if file is not None]
    white = float(probability[given].mean())
    if white > 1 - LEAST_STATIC:
        raise Das3rError(
            f"The masks in {masks.folder} are all white: nothing would be static, and there would be no scene. White "
            "means that something moves."
        )
    if white > MOSTLY_WHITE:
        say(
            f"The masks in {masks.folder} are white over {100 * white:.0f} % of the video. White means moves; if you "
            "meant the static parts, swap black and white."
        )
    return probability


def _largest_of_16_bits(file: Path) -> float:
    """Of a picture that is black in 8 bits, 0 to 255: labels that count 1, 2, ... come to nothing there."""
    picture = read_picture(file, cv2.IMREAD_UNCHANGED)
    return 0.0 if picture is None or picture.dtype != np.uint16 else float(picture.max()) / 257


def read_fixed(file: Path, size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """What is fixed to the camera as the user's picture has it: 1 where it is white, 0 where it is black.

    Args:
        file: The picture, of any size.
        size: Width and height wanted, of the shape of the frames.

    Raises:
        Das3rError: It is not there, cannot be read, belongs to another picture, or leaves nothing of the world.
    """
    if not file.is_file():
        raise Das3rError(
            f"The picture of what is fixed to the camera, {file} (--fixed-mask), does not exist or is a folder. Name "
            "one picture, white where the camera's own things are seen; or leave it out, and they are found."
        )
    image = read_image(file).max(axis=-1).astype(np.float32) / 255
    height, width = image.shape
    if abs(width * size[1] / (height * size[0]) - 1) > SAME_SHAPE:
        raise Das3rError(
            f"The picture of what is fixed to the camera, {file} (--fixed-mask), is {width} x {height} pixels, another "
            f"shape than the frames ({size[0]} x {size[1]}): draw it over one of them."
        )
    fixed = cv2.resize(image, size, interpolation=cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR)
    if (fixed >= 0.5).mean() > 1 - LEAST_STATIC:
        raise Das3rError(
            f"The picture of what is fixed to the camera, {file} (--fixed-mask), is white all over: nothing of the "
            "world would be left. White is what the camera carries with it, black the world."
        )
    return fixed
