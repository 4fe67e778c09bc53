"""das3r's data for measurements: without masks, or with held-out frames that the splats see nothing of but cameras."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from das3r_ns.data.dataparser import Das3rVideoDataParser, Das3rVideoDataParserConfig, split_frames
from das3r_ns.evaluation.metrics import path_length
from das3r_ns.files import link_files
from das3r_ns.scene.geometry import invert_rigid

if TYPE_CHECKING:
    from das3r_ns.frontend.prepared import PreparedScene
    from das3r_ns.scene.estimate import SceneEstimate

STRICT = "-strict"
"""Ends the name of the folder, beside the video's, that links to its training frames."""


@dataclass
class BenchDataParserConfig(Das3rVideoDataParserConfig):
    """das3r's cameras, masks and seeds, with what measurements vary."""

    _target: type = field(default_factory=lambda: BenchDataParser)
    """target class to instantiate"""
    use_masks: bool = True
    """Whether anything counts as moving; without, every pixel trains and seeds."""
    strict: bool = False
    """Depth, masks and seeds come from a second run of the front end that never sees the held-out frames. These give
    their cameras alone, which come from the first run and are carried over."""

    @classmethod
    def like(cls, config: Das3rVideoDataParserConfig, **changes: Any) -> BenchDataParserConfig:
        """The settings of another config, and what is changed in them."""
        fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name != "_target"}
        # Held-out frames are judged at the size of the front end, as the published figures are.
        return cls(**{**fields, "train_size": "working", **changes})


@dataclass
class BenchDataParser(Das3rVideoDataParser):
    """Changes what the front end found before anything is made of it."""

    config: BenchDataParserConfig

    @cached_property
    def prepared(self) -> PreparedScene:
        prepared = super().prepared
        estimate = prepared.estimate
        if self.config.strict and self.config.eval_split != "none":
            estimate = self._without_held_out(prepared)
        if not self.config.use_masks:
            nothing = np.zeros_like(estimate.dynamic_probability)
            estimate = dataclasses.replace(estimate, dynamic_probability=nothing)
        return dataclasses.replace(prepared, entry=dataclasses.replace(prepared.entry, estimate=estimate))

    def _without_held_out(self, prepared: PreparedScene) -> SceneEstimate:
        from das3r_ns.frontend.run import load_or_estimate
        from das3r_ns.video import open_clip

        train, _ = split_frames(prepared.estimate.num_frames, self.config.eval_split)
        folder = open_clip(self.config.data, self.config.front_end.max_frames).path
        names = [prepared.estimate.frame_names[i] for i in train]
        clip = self.config.data.resolve().with_name(self.config.data.resolve().name + STRICT)
        link_files([Path(folder) / name for name in names], clip)
        blind = load_or_estimate(clip, self.config.front_end, require_cache=self.config.require_cache).estimate
        return with_held_out_cameras(blind, prepared.estimate, train)


def with_held_out_cameras(blind: SceneEstimate, full: SceneEstimate, train: list[int]) -> SceneEstimate:
    """An estimate of the training frames, completed by nothing but the cameras of the others.

    A held-out camera keeps the motion that the full estimate has from its neighbour, the training frame before it (or
    after it, at the start), with the length of that motion in the unit of the blind estimate. Its depth and dynamic
    probability are that neighbour's, with no confidence and all of it moving: nothing may be made of them.

    Args:
        blind: Made from the training frames alone.
        full: Made from all frames.
        train: Numbers of the training frames.
    """
    count = full.num_frames
    scale = path_length(blind.c2w_cv) / length if (length := path_length(full.c2w_cv[train])) > 0 else 1.0
    position = {frame: k for k, frame in enumerate(train)}
    neighbour = [max((t for t in train if t <= i), default=train[0]) for i in range(count)]
    source = [position[frame] for frame in neighbour]
    held_out = np.array([i not in position for i in range(count)])
    motion = invert_rigid(full.c2w_cv[neighbour]) @ full.c2w_cv
    motion[:, :3, 3] *= scale
    poses = blind.c2w_cv[source]
    poses[held_out] = (poses @ motion)[held_out]
    hidden = held_out[:, None, None]
    return dataclasses.replace(
        full,
        c2w_cv=poses,
        # One focal for the whole video, and it is the one that the depth belongs to.
        intrinsics=blind.intrinsics[source],
        depth=blind.depth[source],
        confidence=np.where(hidden, np.float32(0), blind.confidence[source]),
        dynamic_probability=np.where(hidden, np.float32(1), blind.dynamic_probability[source]),
        camera_kind=blind.camera_kind,
        provenance={**full.provenance, "strict": blind.provenance},
    )
