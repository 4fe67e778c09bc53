"""Which videos a batch is about: files, folders, patterns and manifests, and the options of each."""

from __future__ import annotations

import csv
import dataclasses
import glob
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from das3r_ns.batch.config import Preset
from das3r_ns.batch.storage import is_url, matching
from das3r_ns.errors import Das3rError
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.presets import apply_overrides, read_preset
from das3r_ns.video.image_folder import SUBFOLDERS, VIDEO_SUFFIXES, images_in, natural_key
from das3r_ns.video.selection import MIN_FRAMES

MANIFESTS = (".csv", ".yaml", ".yml")
WORDS = {"video": "the file or folder, or its URL", "name": "what its results are called"}
"""Columns of a manifest that are no option."""


@dataclass
class VideoOptions:
    """What may be different for every video, besides the front end's own settings."""

    preset: Preset | None = None
    max_num_iterations: int | None = None
    """Steps of the training; None: the preset's."""
    anyway: bool = False
    """Train on cameras that are not solved, too."""
    threshold: float = 0.5
    """As of das3r masks."""
    dilation: int = 0
    """As of das3r masks."""
    format: tuple[str, ...] = ()
    """As of das3r export; nothing: its default."""
    fill_holes: bool = False
    """As of das3r clean-plate."""
    strict_holes: bool = False
    """As of das3r clean-plate."""


OPTIONS = tuple(f.name for f in dataclasses.fields(VideoOptions))
FRONT_END = tuple(f.name for f in dataclasses.fields(FrontEndConfig))
_HINTS = typing.get_type_hints(FrontEndConfig)
PATHS = ("video", *(name for name in FRONT_END if Path in typing.get_args(_HINTS[name])))
"""Columns of a manifest that are paths, relative to its folder."""


@dataclass(frozen=True)
class Video:
    """A video of a batch."""

    name: str
    """Of its folder in the output."""
    data: Path
    options: VideoOptions = field(default_factory=VideoOptions)
    front_end: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the front end's settings that the user has set."""
    url: str | None = None
    """Where it is fetched from, where it is not at its path."""

    def with_preset(self, preset: Preset) -> Video:
        """The same, with this preset where it has none of its own."""
        return dataclasses.replace(
            self, options=dataclasses.replace(self.options, preset=self.options.preset or preset)
        )

    def settings(self) -> FrontEndConfig:
        """The front end's settings: the preset's, and what the user has set."""
        config = FrontEndConfig()
        for part in (preset_front_end(self.options.preset or "das3r"), self.front_end):
            apply_overrides(config, part, f"The batch, for {self.name},")
        return config


def preset_front_end(preset: str) -> Mapping[str, Any]:
    """What a preset sets of the front end."""
    settings: Any = read_preset(preset)["trainer"]
    for key in ("pipeline", "datamanager", "dataparser", "front_end"):
        settings = settings.get(key) or {}
    return settings


def find_videos(
    named: Sequence[str], options: VideoOptions | None = None, front_end: Mapping[str, Any] | None = None
) -> list[Video]:
    """The videos that files, folders, patterns and manifests name, in their order.

    Args:
        named: As the user gave them.
        options: For all videos; a manifest's own come first.
        front_end: Fields of the front end's settings for all videos, likewise.

    Raises:
        Das3rError: Something is not there or is no video, a manifest is bad, or two videos have one name.
    """
    options, front_end = options or VideoOptions(), front_end or {}
    if not named:
        raise Das3rError("No video is named. Give files, folders of frames, a pattern or a manifest (.csv, .yaml).")
    videos: list[Video] = []
    for text in named:
        if is_url(text):
            videos += [Video(_name_of_url(url), Path(url), options, front_end, url) for url in matching(text)]
            continue
        for path in _expanded(text):
            if path.suffix.lower() in MANIFESTS:
                videos += _read_manifest(path, options, front_end)
            else:
                found = [path] if path.is_file() or _is_video(path) else _videos_in(path)
                videos += [Video(_name_of(video), video.resolve(), options, front_end) for video in found]
    by_name: dict[str, Video] = {}
    for video in videos:
        twin = by_name.setdefault(video.name, video)
        if twin is not video:
            first, second = twin.url or twin.data, video.url or video.data
            raise Das3rError(
                f"Two videos have the name {video.name}: {first} and {second}. Their results would lie in one "
                "folder. Give one of them another name in a manifest (column name), or leave one out."
            )
    return videos


def _expanded(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.exists():
        return [path]
    if glob.has_magic(text):
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        if matches := sorted(found, key=lambda match: natural_key(str(match))):
            return matches
        raise Das3rError(f"Nothing matches {text}. Relative patterns start at {Path.cwd()}.")
    raise Das3rError(
        f"{path} does not exist. Name videos, folders, patterns or manifests; relative paths start at {Path.cwd()}."
    )


def _is_video(folder: Path) -> bool:
    """Whether a folder holds frames; a single picture beside films is a thumbnail."""
    places = [place for place in (folder, *(folder / name for name in SUBFOLDERS)) if place.is_dir()]
    most = max((len(images_in(place)) for place in places), default=0)
    if 0 < most < MIN_FRAMES:
        return not any(entry.suffix.lower() in VIDEO_SUFFIXES for entry in folder.iterdir())
    return most > 0


def _videos_in(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir(), key=lambda entry: natural_key(entry.name))
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    found = [e for e in visible if (e.suffix.lower() in VIDEO_SUFFIXES if e.is_file() else _is_video(e))]
    if not found:
        raise Das3rError(
            f"{folder} holds neither frames nor videos ({', '.join(VIDEO_SUFFIXES)}) nor folders of frames. Name a "
            "folder that does."
        )
    return found


def _name_of(path: Path) -> str:
    path = path.resolve()
    if path.is_file():
        return path.stem
    return path.parent.name if path.name in SUBFOLDERS else path.name


def _name_of_url(url: str) -> str:
    path = PurePosixPath(url)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return path.stem
    return path.parent.name if path.name in SUBFOLDERS else path.name


def _read_manifest(path: Path, options: VideoOptions, front_end: Mapping[str, Any]) -> list[Video]:
    videos = [_entry(path, where, row, options, front_end) for where, row in _rows(path)]
    if not videos:
        raise Das3rError(f"The manifest {path} names no video. It has a line for each: {_columns()}.")
    return videos


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where an entry stands, and its columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            lines = csv.DictReader(text.splitlines(), strict=True)
            for number, line in enumerate(lines, 1):
                if None in line:
                    raise Das3rError(f"The manifest {path} has more cells than columns in its line {number + 1}.")
                yield f"line {number + 1}", {k.strip(): _typed(k, v) for k, v in line.items() if v and v.strip()}
            return
        content = yaml.safe_load(text)
    except (OSError, ValueError, csv.Error, yaml.YAMLError) as error:
        raise Das3rError(f"The manifest {path} cannot be read: {error}. It is UTF-8 text, CSV or YAML.") from error
    defaults: Any = {}
    if isinstance(content, dict):
        defaults, content = content.get("defaults") or {}, content.get("videos")
    if not isinstance(content, list) or not isinstance(defaults, dict):
        raise Das3rError(
            f"The manifest {path} is no list of videos. In YAML it is a list of entries (or `videos:` with such a "
            f"list, and `defaults:` for all of them), each of: {_columns()}."
        )
    for number, entry in enumerate(content, 1):
        entry = {"video": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict):
            raise Das3rError(f"The manifest {path} has {entry!r} as entry {number}, which is no video: {_columns()}.")
        yield f"entry {number}", {**defaults, **entry}


def _typed(column: str, cell: str) -> Any:
    """The value of a cell of a CSV file."""
    cell = cell.strip()
    if column.strip().replace("-", "_") == "format":
        return cell.split()
    return cell if column.strip() in WORDS else yaml.safe_load(cell)


def _columns() -> str:
    return ", ".join([*(f"{word} ({what})" for word, what in WORDS.items()), *OPTIONS, *FRONT_END])


def _entry(
    manifest: Path, where: str, row: Mapping[str, Any], options: VideoOptions, front_end: Mapping[str, Any]
) -> Video:
    columns = {str(key).strip().replace("-", "_"): value for key, value in row.items()}
    source = f"The manifest {manifest}, {where},"
    if unknown := [name for name in columns if name not in (*WORDS, *OPTIONS, *FRONT_END)]:
        raise Das3rError(f"{source} has the option {unknown[0]}, which there is not. There are: {_columns()}.")
    for name in PATHS:
        if columns.get(name) is not None and not (name == "video" and is_url(str(columns[name]))):
            columns[name] = str((manifest.parent / Path(str(columns[name])).expanduser()).resolve())
    if "video" not in columns:
        raise Das3rError(f"{source} names no video. Its columns are: {_columns()}.")
    data = Path(columns["video"])
    url = str(columns["video"]) if is_url(str(columns["video"])) else None
    if url is not None:
        matching(url)
    elif not data.exists():
        raise Das3rError(f"{source} names {data}, which does not exist. Paths start at the folder of the manifest.")
    name = str(columns.get("name") or (_name_of_url(url) if url else _name_of(data)))
    if name != Path(name).name or name.startswith("."):
        raise Das3rError(
            f"{source} has the name {name!r}, which is none of a folder. Take one without / and no dot "
            "at its beginning."
        )
    own = {key: columns[key] for key in OPTIONS if key in columns}
    fields = {key: columns[key] for key in FRONT_END if key in columns}
    apply_overrides(FrontEndConfig(), fields, source)
    video_options = apply_overrides(dataclasses.replace(options), own, source)
    return Video(name, data, video_options, {**front_end, **fields}, url)
