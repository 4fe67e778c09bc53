"""SceneEstimates on disk, found again by a hash of frames and settings. No pickle.

One entry is a folder named by its key::

    scene.json       format, key, frame names, camera kind, lens, shutter, light and falloff (if any), provenance, speed
                     of the video and its size
    estimate.npz     the arrays
    frames/          the frames at the working resolution, 00000.png, 00001.png, ...
    frames_full/     the frames at the size of the video, once something asked for them; frames_WxH/ at others
    static-*/        static weights and masks, and points-*.npz seed points, once something was trained

An entry is written under a temporary name and renamed, so it is there completely or not at all; two processes that
compute the same entry end up with one of the two.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from das3r_ns.errors import Das3rError
from das3r_ns.files import DAMAGED_ARRAYS, remove_abandoned, replace_directory, temporary_directory
from das3r_ns.pictures import read_picture
from das3r_ns.scene.estimate import SceneEstimate
from das3r_ns.scene.fisheye import lens_from_json
from das3r_ns.scene.shutter import Shutter
from das3r_ns.workers import workers

FORMAT = 1
"""Version of the layout above."""
FOLDER = ".das3r"
SCENE, ESTIMATE, FRAMES = "scene.json", "estimate.npz", "frames"
STORED_TYPES = {
    "c2w_cv": np.float64,
    "intrinsics": np.float64,
    # The unit of length is arbitrary, so depth may lie outside the range of float16; and its steps of 1/2000 would show
    # as terraces on slanted surfaces. The two maps between 0 and 1 are known to a hundredth at best.
    "depth": np.float32,
    "confidence": np.float16,
    "dynamic_probability": np.float16,
}
BYTES_PER_PIXEL = 4 + 2 + 2 + 3
"""Depth, confidence, dynamic probability, and a PNG that does not compress at all."""


@dataclass(frozen=True)
class CacheEntry:
    """A SceneEstimate with the frames it was made from."""

    directory: Path
    estimate: SceneEstimate
    fps: float
    original_size: tuple[int, int]
    """Width and height of the video."""

    @property
    def image_paths(self) -> list[Path]:
        """The frames at the working resolution."""
        return frame_paths(self.directory / FRAMES, self.estimate.num_frames)


class BadEntry(Exception):
    """A cache entry that is damaged or not ours; the message says why."""


def cache_key(content_hash: str, settings: dict[str, Any]) -> str:
    """Name of the entry for these frames and settings (JSON values)."""
    text = json.dumps([FORMAT, content_hash, settings], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def cache_roots(clip_path: Path) -> list[Path]:
    """Folders that entries for a video may lie in, the preferred one first.

    Beside the video, where it is found by whoever gets the folder and goes when the video is deleted; else in the
    user's cache folder, for videos on a disk that cannot be written.
    """
    beside = clip_path / FOLDER if clip_path.is_dir() else clip_path.with_name(clip_path.name + FOLDER)
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [beside, user / "das3r"]


def writable_root(roots: list[Path]) -> Path:
    """The first of the folders that can be written.

    Raises:
        Das3rError: None can.
    """
    for root in roots:
        if can_write(root):
            return root
    raise Das3rError(
        f"Results cannot be stored: neither {roots[0]} nor {roots[1]} can be written. Set XDG_CACHE_HOME to a folder "
        "that can."
    )


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        # A full disk is no reason to fill the next one without a word.
        return error.errno == errno.ENOSPC


SMALLER = "use fewer or smaller frames (--max-frames, --long-side)"
"""What to do about a full disk other than making room."""


def check_space(folder: Path, needed: int, otherwise: str = SMALLER) -> None:
    """Raise a :class:`Das3rError` unless the disk of a folder has so many bytes to spare.

    Args:
        folder: Any on that disk.
        needed: Bytes.
        otherwise: What to do other than making room, for the message.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _disk_full(folder, needed, free, otherwise)


def estimate_bytes(num_frames: int, height: int, width: int) -> int:
    """Most bytes an entry takes."""
    return num_frames * height * width * BYTES_PER_PIXEL + (1 << 20)


def save_entry(
    root: Path,
    key: str,
    estimate: SceneEstimate,
    images: UInt8[np.ndarray, "N H W 3"],
    fps: float,
    original_size: tuple[int, int],
) -> CacheEntry:
    """Write an entry and read it back, so that the first run continues with exactly what later runs will find.

    As :func:`store_entry`, which says what it takes.
    """
    return load_entry(store_entry(root, key, estimate, images, fps, original_size), key)


def store_entry(
    root: Path,
    key: str,
    estimate: SceneEstimate,
    images: UInt8[np.ndarray, "N H W 3"],
    fps: float,
    original_size: tuple[int, int],
) -> Path:
    """Write an entry.

    Args:
        root: One of :func:`cache_roots`.
        key: From :func:`cache_key`.
        estimate: What to store.
        images: The frames at the working resolution.
        fps: Frames per second of these frames.
        original_size: Width and height of the video.

    Returns:
        Its folder.

    Raises:
        Das3rError: The disk is full or cannot be written.
    """
    remove_abandoned(root)
    target = root / key
    with writing(target, estimate_bytes(estimate.num_frames, estimate.height, estimate.width)) as temporary:
        arrays = {name: getattr(estimate, name).astype(kind, copy=False) for name, kind in STORED_TYPES.items()}
        arrays |= {} if estimate.fixed is None else {"fixed": estimate.fixed}
        with (temporary / ESTIMATE).open("wb") as file:
            np.savez(file, **arrays)
        write_frames(temporary / FRAMES, images)
        scene: dict[str, Any] = {
            "format": FORMAT,
            "key": key,
            "frame_names": estimate.frame_names,
            "camera_kind": estimate.camera_kind,
            "provenance": estimate.provenance,
            "fps": fps,
            "original_size": list(original_size),
            **({"lens": estimate.lens.to_json()} if estimate.lens is not None else {}),
            **({"shutter": estimate.shutter.to_json()} if estimate.shutter is not None else {}),
            **({"light": estimate.light.tolist()} if estimate.light is not None else {}),
            **({"falloff": estimate.falloff.tolist()} if estimate.falloff is not None else {}),
        }
        (temporary / SCENE).write_text(json.dumps(scene, indent=1, default=float), encoding="utf-8")
        if not _is_good(target, key):  # else another process was quicker, with the same result
            replace_directory(temporary, target)
    return target


def load_entry(directory: Path, key: str) -> CacheEntry:
    """Read an entry.

    Raises:
        BadEntry: It is damaged, incomplete, or of another format.
    """
    try:
        scene = json.loads((directory / SCENE).read_text(encoding="utf-8"))
        if scene["format"] != FORMAT or scene["key"] != key:
            raise BadEntry("it was written by another version")
        # Opened here, for np.load forgets to close a file that turns out not to be an archive.
        with (directory / ESTIMATE).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in STORED_TYPES}
            fixed = stored["fixed"] if "fixed" in stored.files else None
        for name in ("confidence", "dynamic_probability"):
            arrays[name] = arrays[name].astype(np.float32)
        estimate = SceneEstimate(
            frame_names=list(scene["frame_names"]),
            camera_kind=scene["camera_kind"],
            provenance=scene["provenance"],
            lens=lens_from_json(scene["lens"]) if "lens" in scene else None,
            shutter=Shutter.from_json(scene["shutter"]) if "shutter" in scene else None,
            light=np.array(scene["light"], dtype=np.float64) if "light" in scene else None,
            falloff=np.array(scene["falloff"], dtype=np.float64) if "falloff" in scene else None,
            fixed=fixed,
            **arrays,
        )
        width, height = scene["original_size"]
        entry = CacheEntry(directory, estimate, float(scene["fps"]), (int(width), int(height)))
    except DAMAGED_ARRAYS as error:
        raise BadEntry(f"{type(error).__name__}: {error}") from error
    missing = [path.name for path in entry.image_paths if not path.is_file() or path.stat().st_size == 0]
    if missing:
        raise BadEntry(f"the frame {missing[0]} is missing")
    return entry


def frame_paths(folder: Path, count: int) -> list[Path]:
    """Names of the frames in a folder of an entry."""
    return [folder / f"{number:05d}.png" for number in range(count)]


def read_frame(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A frame of an entry, RGB.

    Raises:
        Das3rError: It is missing or damaged.
    """
    frame = read_picture(path)
    if frame is None:
        raise Das3rError(f"The cached frame {path} cannot be read. Delete its folder and start again.")
    return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def write_frames(folder: Path, images: Iterable[UInt8[np.ndarray, "H W 3"]]) -> None:
    """Write RGB frames as 00000.png, 00001.png, ... into a new folder."""
    folder.mkdir()

    def write(item: tuple[int, UInt8[np.ndarray, "H W 3"]]) -> None:
        # imwrite would report a full disk by its return value only, without the reason.
        encoded = cv2.imencode(".png", item[1][..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        (folder / f"{item[0]:05d}.png").write_bytes(encoded.tobytes())

    threads = workers(64 << 20)
    with ThreadPoolExecutor(threads) as pool:
        batch: list[tuple[int, UInt8[np.ndarray, "H W 3"]]] = []
        for item in enumerate(images):
            batch.append(item)
            if len(batch) >= max(8, threads):
                list(pool.map(write, batch))
                batch.clear()
        list(pool.map(write, batch))


@contextmanager
def writing(target: Path, needed: int, otherwise: str = SMALLER) -> Iterator[Path]:
    """A temporary folder beside ``target``; a full or unwritable disk becomes a :class:`Das3rError`.

    Args:
        target: Where the result will lie.
        needed: Bytes it takes at most.
        otherwise: What to do other than making room, for the message.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        check_space(target.parent, needed, otherwise)
        with temporary_directory(target) as temporary:
            yield temporary
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(target.parent, needed, shutil.disk_usage(target.parent).free, otherwise) from error
        raise Das3rError(f"Results cannot be stored in {target.parent} ({error}). Make the folder writable.") from error


def find_entry(roots: list[Path], key: str, say: Callable[[str], None]) -> CacheEntry | None:
    """The entry of a key in the first folder that has a good one; says so where one is not good."""
    for root in roots:
        directory = root / key
        if not directory.exists():
            continue
        try:
            return load_entry(directory, key)
        except BadEntry as error:
            say(f"The cached result in {directory} cannot be used ({error}); it is computed again.")
    return None


def recorded(roots: list[Path], name: str) -> list[str]:
    """What the entries in some folders say about their making: the different values under a name in the provenance."""
    values: dict[str, None] = {}
    for root in roots:
        for scene in sorted(root.glob(f"*/{SCENE}")):
            try:
                value = json.loads(scene.read_text(encoding="utf-8"))["provenance"].get(name)
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue  # not one of ours
            if isinstance(value, str):
                values.setdefault(value)
    return list(values)


def _is_good(directory: Path, key: str) -> bool:
    try:
        load_entry(directory, key)
    except BadEntry:
        return False
    return True


def _disk_full(folder: Path, needed: int, free: int, otherwise: str) -> Das3rError:
    return Das3rError(
        f"The disk of {folder} is too full: {needed / 1e6:.0f} MB ({needed} bytes) are needed there and "
        f"{free / 1e6:.0f} MB are free. Make room, or {otherwise}."
    )
