"""A video file as a :class:`~das3r_ns.video.clip.Clip`, decoded with FFmpeg through PyAV."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from das3r_ns.errors import Das3rError
from das3r_ns.video.clip import Clip, Image

STILL_OR_TEXT = ("tty", "image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe")
"""FFmpeg's names for pictures, and for text that it would show as a film of letters."""
COMPLETE = 0.9
"""Share of the frames that must decode. The last ones of a trimmed or badly ended recording often do not."""


@dataclass(frozen=True)
class _Probe:
    num_frames: int
    fps: float
    size: tuple[int, int]


class VideoFile(Clip):
    """Any video that FFmpeg reads; frames are turned as its display rotation says.

    Raises:
        Das3rError: Not a video, no video in it, or a video that does not decode.
    """

    _fault: str | None = None
    """Why decoding ended early."""

    @cached_property
    def _probe(self) -> _Probe:
        with self._opened() as (container, stream):
            # The length written in the header is a guess in many containers; counting packets reads the file once and
            # decodes nothing.
            count = sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
            rate = stream.average_rate or stream.guessed_rate
        with self._opened() as (container, stream):
            first = next(self._decoded(container, stream), None)
        if first is None:
            reason = f" ({self._fault})" if self._fault else ""
            raise Das3rError(
                f"{self.path} holds no frame that can be decoded{reason}. Re-encode it, for example to H.264 MP4."
            )
        return _Probe(count, float(rate or 24), (first.shape[1], first.shape[0]))

    @property
    def num_source_frames(self) -> int:
        return self._probe.num_frames

    @property
    def names(self) -> list[str]:
        return [f"{index:05d}" for index in self.indices]

    @property
    def fps(self) -> float:
        return self._probe.fps * len(self.indices) / self.num_source_frames

    @property
    def size(self) -> tuple[int, int]:
        return self._probe.size

    @cached_property
    def content_hash(self) -> str:
        digest = hashlib.blake2b(repr(self.indices).encode(), digest_size=16)
        with self.path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def original_images(self, on_frame: Callable[[], None] = lambda: None) -> Iterator[Image]:
        wanted, found, number = set(self.indices), 0, -1
        with self._opened() as (container, stream):
            for number, image in enumerate(self._decoded(container, stream, wanted)):
                if number not in wanted:
                    continue
                if (image.shape[1], image.shape[0]) != self.size:
                    raise Das3rError(
                        f"Frame {number} of {self.path} is {image.shape[1]} x {image.shape[0]} pixels, the first one "
                        f"{self.size[0]} x {self.size[1]}. A video that changes its size must be re-encoded first."
                    )
                found += 1
                on_frame()
                yield image
        if found < COMPLETE * len(wanted):
            raise Das3rError(
                f"{self.path} lists {self.num_source_frames} frames but only the first {number + 1} can be decoded"
                f"{f' ({self._fault})' if self._fault else ''}: the file is cut off or damaged. Re-encode it, or cut "
                "it to the part that plays."
            )

    @contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        try:
            container = av.open(str(self.path))
        except (FFmpegError, OSError, ValueError) as error:
            raise Das3rError(
                f"{self.path} is not a video that can be read ({_reason(error)}). Name a folder of frames (jpg, png or "
                "webp) or a video file such as an MP4; if it plays elsewhere, re-encode it to H.264 MP4."
            ) from error
        with container:
            if any(name in STILL_OR_TEXT for name in container.format.name.split(",")):
                raise Das3rError(
                    f"{self.path} is not a video. Name a folder of frames (jpg, png or webp) or a video file such as "
                    "an MP4."
                )
            if not container.streams.video:
                raise Das3rError(f"{self.path} has no video stream in it (only sound?). Name a file with a picture.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream

    def _decoded(
        self, container: InputContainer, stream: VideoStream, wanted: set[int] | None = None
    ) -> Iterator[Image]:
        """Frames in order; those not wanted come as an empty picture, for converting them costs time."""
        number = 0
        try:
            for frame in container.decode(stream):
                yield _upright(frame, stream) if wanted is None or number in wanted else np.empty((0, 0, 3), np.uint8)
                number += 1
        except FFmpegError as error:
            self._fault = _reason(error)  # whether enough was decoded is for the caller to say


def _upright(frame: av.VideoFrame, stream: VideoStream) -> Image:
    image = frame.to_ndarray(format="rgb24")
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:  # pixels that are not square would need two focal lengths
        image = cv2.resize(
            image, (round(image.shape[1] * float(aspect)), image.shape[0]), interpolation=cv2.INTER_LINEAR
        )
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
