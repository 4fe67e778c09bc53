"""A video file as a :class:`~das3r_ns.video.clip.Clip`, decoded with FFmpeg through PyAV."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import cast

import av
import av.filter
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from jaxtyping import Float

from das3r_ns.errors import Das3rError
from das3r_ns.video.clip import SMALL, Clip, Grey, Image, shrink, working_size
from das3r_ns.video.colour import HLG, is_hdr, shown

STILL_OR_TEXT = ("tty", "image2", "png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe")
"""FFmpeg's names for pictures, and for text that it would show as a film of letters."""
SPOILT = 0.5
"""Most of a film that is given up for its being predicted from damaged frames."""
COMPLETE = 0.9
"""Share of the frames that must decode. The last ones of a trimmed or badly ended recording often do not."""


@dataclass(frozen=True)
class _Probe:
    times: list[int]
    """Presentation time of every frame, in order; empty where the file does not say them all."""
    runs: list[list[int]]
    """Frames that may need each other, in the order in which they are stored: each run begins with a key frame."""
    time_base: Fraction
    """Seconds of its unit."""
    num_frames: int
    fps: float
    size: tuple[int, int]
    interlaced: bool
    transfer: int | None
    """Transfer function of an HDR film; None for others."""


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
            packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.size and not p.is_discard]
            rate, unit = stream.average_rate or stream.guessed_rate, stream.time_base or Fraction(1, 90000)
        with self._opened() as (container, stream):
            first = next(self._decoded(container, stream), None)
            image = None if first is None else _upright(first, stream, first.rotation)
        if first is None or image is None:
            reason = f" ({self._fault})" if self._fault else ""
            raise Das3rError(
                f"{self.path} holds no frame that can be decoded{reason}. Re-encode it, for example to H.264 MP4."
            )
        known = sorted({time for time, _ in packets if time is not None})
        complete = len(known) == len(packets)
        return _Probe(
            times=known if complete else [],
            runs=_runs([(time, is_key) for time, is_key in packets if time is not None], known) if complete else [],
            time_base=unit,
            num_frames=len(packets),
            fps=float(rate or 24),
            size=(image.shape[1], image.shape[0]),
            interlaced=first.interlaced_frame,
            transfer=int(first.color_trc) if is_hdr(first) else None,
        )

    @property
    def num_source_frames(self) -> int:
        return self._probe.num_frames

    @property
    def sources(self) -> list[Path]:
        return [self.path]

    @property
    def names(self) -> list[str]:
        return [f"{index:05d}" for index in self.indices]

    @cached_property
    def times(self) -> Float[np.ndarray, " N"]:
        if not self._probe.times:
            return np.arange(self.num_source_frames) / self._probe.fps
        return np.array(self._probe.times) * float(self._probe.time_base)

    @property
    def source_fps(self) -> float:
        return self._probe.fps

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

    @property
    def remarks(self) -> list[str]:
        remarks = super().remarks
        if self._probe.transfer is not None:
            kind = "HLG" if self._probe.transfer == HLG else "PQ"
            remarks.append(
                f"{self.path} is a film of high dynamic range ({kind}); it is taken as an ordinary screen shows it, "
                "with 203 cd/m2 as white."
            )
        if self._probe.interlaced:
            remarks.append(f"{self.path} is interlaced; each frame is made whole from its first field (bwdif).")
        return remarks

    def original_images(self, on_frame: Callable[[], None] = lambda: None) -> Iterator[Image]:
        wanted, found, number = set(self.indices), [], -1
        with self._opened() as (container, stream):
            for number, image in self._numbered(container, stream, wanted):
                if (image.shape[1], image.shape[0]) != self.size:
                    raise Das3rError(
                        f"Frame {number} of {self.path} is {image.shape[1]} x {image.shape[0]} pixels, the first one "
                        f"{self.size[0]} x {self.size[1]}. A video that changes its size must be re-encoded first."
                    )
                found.append(number)
                on_frame()
                yield image
        if len(found) < COMPLETE * len(wanted):
            raise Das3rError(
                f"{self.path} lists {self.num_source_frames} frames but only {len(found)} of the {len(wanted)} wanted "
                f"can be decoded{f' ({self._fault})' if self._fault else ''}, the last one number {number}: the "
                "file is cut off or damaged. Re-encode it, or cut it to the part that plays."
            )
        self.lost = sorted(wanted.difference(found))

    def glance(self, on_frame: Callable[[], None] = lambda: None, long_side: int = 0) -> Iterator[tuple[int, Grey]]:
        keeps = bool(long_side) and self.num_source_frames <= self.max_frames
        self._working, self._working_side = {}, long_side
        damage = _Damage(self._probe.runs, self.num_source_frames)
        with self._opened() as (container, stream):
            for number, frame, rotation in self._numbered_frames(container, stream):
                if damage.hits(number, frame.is_corrupt):
                    continue
                if keeps:
                    image = _upright(frame, stream, rotation)
                    if (image.shape[1], image.shape[0]) == self.size:
                        self._working[number] = shrink(image, long_side)
                on_frame()
                yield number, _small(frame, stream, rotation)
        self.damaged = sorted(damage.frames)

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
                    "an MP4; animated pictures must be converted to one first."
                )
            if not container.streams.video:
                raise Das3rError(f"{self.path} has no video stream in it (only sound?). Name a file with a picture.")
            # That which players show: a picture for the cover may come first.
            stream = cast(VideoStream, container.streams.best("video") or container.streams.video[0])
            stream.thread_type = "AUTO"
            yield container, stream

    def _numbered(
        self, container: InputContainer, stream: VideoStream, wanted: set[int]
    ) -> Iterator[tuple[int, Image]]:
        """The wanted frames with their positions in the video, in order. Only they are converted: it costs time."""
        for number, frame, rotation in self._numbered_frames(container, stream):
            if number in wanted:
                yield number, _upright(frame, stream, rotation)

    def _numbered_frames(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[tuple[int, av.VideoFrame, int]]:
        """Every frame that decodes: its position in the video, itself, and its display rotation."""
        position = {time: number for number, time in enumerate(self._probe.times)}
        rotation: int | None = None
        for count, frame in enumerate(self._decoded(container, stream, self._probe.interlaced)):
            rotation = frame.rotation if rotation is None else rotation  # which the filter of interlaced films drops
            # By time, since a damaged frame is missing from the count.
            number = position.get(frame.pts, count) if frame.pts is not None else count
            yield number, frame, rotation

    def _decoded(
        self, container: InputContainer, stream: VideoStream, deinterlace: bool = False
    ) -> Iterator[av.VideoFrame]:
        """Frames in order. What is damaged is left out, as players do: whether enough is left is for the caller."""
        whole = _Deinterlacer(stream) if deinterlace else None
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except FFmpegError as error:
                    self._fault = _reason(error)
                    continue
                yield from frames if whole is None else whole(frames)
        except FFmpegError as error:  # of the file, not of one packet: there is nothing to go on with
            self._fault = _reason(error)
        if whole is not None:
            yield from whole.rest()


def _runs(packets: list[tuple[int, bool]], times: list[int]) -> list[list[int]]:
    """Positions of frames, as stored, split before key frames."""
    position = {time: number for number, time in enumerate(times)}
    runs: list[list[int]] = []
    for time, is_key in packets:
        if is_key or not runs:
            runs.append([])
        runs[-1].append(position[time])
    return runs


class _Damage:
    """Which frames of a film are spoilt: those that its decoder says it had to make up, those that never come, and what
    is predicted from either, up to the next key frame.

    Args:
        runs: Of the probe.
        num_frames: Length of the film.
    """

    def __init__(self, runs: list[list[int]], num_frames: int) -> None:
        self.frames: set[int] = set()
        self._run = {number: (run, place) for run in runs for place, number in enumerate(run)}
        self._most = SPOILT * num_frames
        self._next = 0
        """Position of the frame that should come."""

    def hits(self, number: int, is_corrupt: bool) -> bool:
        """Whether a frame that was decoded is spoilt; they come in the order in which they are shown."""
        missing = range(self._next, number) if self._run else ()
        for spoilt in (*missing, *([number] if is_corrupt else ())):
            self._add(spoilt)
        self._next = max(self._next, number + 1)
        return number in self.frames

    def _add(self, number: int) -> None:
        run, place = self._run.get(number, ([number], 0))
        with_others = self.frames.union(run[place:])
        # A film may have no other key frame than its first; then what is only predicted from damage has to do.
        self.frames = with_others if len(with_others) <= self._most else self.frames | {number}


class _Deinterlacer:
    """FFmpeg's bwdif, a frame for a frame; its first field stays, the lines of the second are made from it."""

    def __init__(self, stream: VideoStream) -> None:
        self._time_base = stream.time_base
        self._graph = av.filter.Graph()
        nodes = [
            self._graph.add_buffer(template=stream),
            self._graph.add("bwdif", "mode=send_frame:deint=interlaced"),
            self._graph.add("buffersink"),
        ]
        self._graph.link_nodes(*nodes).configure()

    def __call__(self, frames: list[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for frame in frames:
            self._graph.vpush(frame)
        return self._ready()

    def rest(self) -> Iterator[av.VideoFrame]:
        """What the filter still holds when the film ends."""
        self._graph.vpush(None)
        return self._ready()

    def _ready(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                frame = self._graph.vpull()
            except (BlockingIOError, EOFError):
                return
            if frame.pts is not None and frame.time_base and self._time_base:
                # The filter counts in half of the stream's unit, since it could give a frame for every field.
                frame.pts = round(frame.pts * frame.time_base / self._time_base)
                frame.time_base = self._time_base
            yield frame


def _upright(frame: av.VideoFrame, stream: VideoStream, rotation: int) -> Image:
    image = shown(frame)
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:  # pixels that are not square would need two focal lengths
        image = cv2.resize(
            image, (round(image.shape[1] * float(aspect)), image.shape[0]), interpolation=cv2.INTER_LINEAR
        )
    return np.ascontiguousarray(np.rot90(image, round(rotation / 90)))


def _small(frame: av.VideoFrame, stream: VideoStream, rotation: int) -> Grey:
    """A frame grey and upright at SMALL."""
    width, height = working_size((round(frame.width * float(stream.sample_aspect_ratio or 1)), frame.height), SMALL)
    small = frame.reformat(width, height, format="gray", interpolation=Interpolation.AREA)
    return np.ascontiguousarray(np.rot90(small.to_ndarray(), round(rotation / 90)))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
