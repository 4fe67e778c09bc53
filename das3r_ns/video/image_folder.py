"""A folder of images as a :class:`~das3r_ns.video.clip.Clip`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
from jaxtyping import Float, UInt8

from das3r_ns.errors import Das3rError
from das3r_ns.video.clip import SMALL, THREADS, Clip, Grey, Image, shrink
from das3r_ns.video.selection import MIN_FRAMES

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
"""Only to give a hint: any file that FFmpeg reads is taken when named itself."""
SUBFOLDERS = ("frames", "images")
FRAMES_PER_SECOND = 24.0
"""Assumed for a folder of images, which says nothing about time; it only sets the speed of preview videos."""
EXIF_ORIENTATION = 0x0112
EXIF_TRANSPOSED = (5, 6, 7, 8)


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which frame2 comes before frame10, whatever the case."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


class ImageFolder(Clip):
    """Images in natural order of their names: jpg, jpeg, png, webp; hidden files do not count.

    Where the folder has no images of its own, its subfolder ``frames`` or ``images`` is taken.

    Raises:
        Das3rError: No images, or two images that differ in nothing but their suffix.
    """

    def __init__(self, path: Path, max_frames: int) -> None:
        folders = [path, *(path / name for name in SUBFOLDERS if (path / name).is_dir())]
        # A single image beside a folder of frames is a thumbnail or a preview.
        found = next(
            (folder for least in (MIN_FRAMES, 1) for folder in folders if len(images_in(folder)) >= least), None
        )
        if found is None:
            raise Das3rError(_nothing_found(path))
        super().__init__(found, max_frames)
        self._all = images_in(found)
        stems: dict[str, Path] = {}
        for image in self._all:
            twin = stems.setdefault(image.stem, image)
            if twin is not image:
                raise Das3rError(
                    f"{found} holds both {twin.name} and {image.name}. Are these the same frame twice? Keep one kind "
                    "of file in the folder."
                )

    @property
    def num_source_frames(self) -> int:
        return len(self._all)

    @property
    def sources(self) -> list[Path]:
        return self._all

    @cached_property
    def files(self) -> list[Path]:
        """The images used."""
        return [self._all[i] for i in self.indices]

    @property
    def names(self) -> list[str]:
        return [file.name for file in self.files]

    @cached_property
    def times(self) -> Float[np.ndarray, " N"]:
        return np.arange(self.num_source_frames) / FRAMES_PER_SECOND

    @property
    def source_fps(self) -> float:
        return FRAMES_PER_SECOND

    @cached_property
    def size(self) -> tuple[int, int]:
        return upright_size(self.files[0])

    @cached_property
    def content_hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        with ThreadPoolExecutor(THREADS) as pool:
            for file, content in zip(self.files, pool.map(file_digest, self.files), strict=True):
                digest.update(f"{file.name}\n".encode("utf-8", "surrogateescape") + content)
        return digest.hexdigest()

    def original_images(self, on_frame: Callable[[], None] = lambda: None) -> Iterator[Image]:
        return self._images(lambda image: image, on_frame)

    def working_images(
        self, long_side: int, on_frame: Callable[[], None] = lambda: None
    ) -> UInt8[np.ndarray, "N H W 3"]:
        # Shrinking inside the threads keeps full-size pictures from piling up.
        kept = self._take_kept(long_side, on_frame)
        return np.stack(kept or list(self._images(lambda image: shrink(image, long_side), on_frame)))

    def glance(self, on_frame: Callable[[], None] = lambda: None, long_side: int = 0) -> Iterator[tuple[int, Grey]]:
        keeps = bool(long_side) and self.num_source_frames <= self.max_frames
        self._working, self._working_side = {}, long_side

        def read(item: tuple[int, Path]) -> tuple[int, Grey | None]:
            number, file = item
            try:
                if keeps:
                    image = read_image(file)
                    grey = None
                    if (image.shape[1], image.shape[0]) == self.size:  # else said where the image is wanted
                        self._working[number] = shrink(image, long_side)
                        grey = shrink(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), SMALL)
                else:
                    grey = read_small(file)
            except Das3rError:
                grey = None  # said there, too
            on_frame()
            return number, grey

        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, self.num_source_frames, 2 * THREADS):
                batch = enumerate(self._all[start : start + 2 * THREADS], start)
                for number, grey in pool.map(read, batch):
                    if grey is not None:
                        yield number, grey

    def _images(self, finish: Callable[[Image], Image], on_frame: Callable[[], None]) -> Iterator[Image]:
        def read(file: Path) -> Image:
            image = read_image(file)
            if (image.shape[1], image.shape[0]) != self.size:
                first, width, height = self.files[0], *self.size
                raise Das3rError(
                    f"The images differ in size: {first} is {width} x {height} but {file} is {image.shape[1]} x "
                    f"{image.shape[0]} (after EXIF rotation). All frames must come from one video; take out or resize "
                    "the odd ones."
                )
            on_frame()
            return finish(image)

        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(self.files), 2 * THREADS):
                yield from pool.map(read, self.files[start : start + 2 * THREADS])


def upright_size(file: Path) -> tuple[int, int]:
    """Width and height of an image as :func:`read_image` gives it, without decoding it.

    Raises:
        Das3rError: It is no image.
    """
    try:
        with PIL.Image.open(file) as image:
            width, height = image.size
            transposed = image.getexif().get(EXIF_ORIENTATION) in EXIF_TRANSPOSED
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error
    return (height, width) if transposed else (width, height)


def read_small(file: Path) -> Grey:
    """An image upright and grey at SMALL, its JPEG decoded at a fraction of its size.

    Raises:
        Das3rError: It is damaged, cut off or no image at all.
    """
    try:
        with PIL.Image.open(file) as opened:
            opened.draft("L", (SMALL, SMALL))
            if opened.mode.startswith("I") or opened.has_transparency_data:
                return shrink(cv2.cvtColor(read_image(file), cv2.COLOR_RGB2GRAY), SMALL)
            return shrink(np.array(PIL.ImageOps.exif_transpose(opened).convert("L")), SMALL)
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def read_image(file: Path) -> Image:
    """Decode an image upright as 8-bit RGB; transparent parts become black.

    Raises:
        Das3rError: It is damaged, cut off or no image at all.
    """
    try:
        with PIL.Image.open(file) as opened:
            image = PIL.ImageOps.exif_transpose(opened)
            if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255 instead of scaling
                grey = np.asarray(image).astype(np.float64) / 257.0
                return np.repeat(np.clip(np.rint(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
            if image.has_transparency_data:
                rgba = image.convert("RGBA")
                black = PIL.Image.new("RGBA", rgba.size, (0, 0, 0, 255))
                image = PIL.Image.alpha_composite(black, rgba)
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> Das3rError:
    return Das3rError(
        f"{file} cannot be read as an image ({error}). It is damaged, cut off or not an image; replace it or take it "
        "out of the folder."
    )


def images_in(folder: Path) -> list[Path]:
    """The images of a folder in natural order of their names.

    Raises:
        Das3rError: The folder cannot be listed.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise Das3rError(f"The folder {folder} cannot be listed ({error}). Check its permissions.") from error
    images = [
        entry
        for entry in entries
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    ]
    return sorted(images, key=lambda image: (natural_key(image.name), image.name))


def _nothing_found(folder: Path) -> str:
    visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    message = f"{folder} holds no images (jpg, jpeg, png or webp), nor does a folder frames or images in it."
    videos = [entry for entry in visible if entry.suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        return f"{message} It holds a video, though: name the file itself, {videos[0]}."
    files = [entry for entry in visible if entry.is_file()]
    if files:
        return f"{message} Files such as {files[0].name} are not taken; convert them to PNG or JPEG."
    folders = [entry for entry in visible if entry.is_dir()]
    if folders:
        return f"{message} If they lie deeper, name that folder ({folders[0]}?)."
    return f"{message} It is empty."


def file_digest(file: Path) -> bytes:
    """Hash of a file's content.

    Raises:
        Das3rError: It cannot be read.
    """
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
    except OSError as error:
        raise _unreadable(file, error) from error
