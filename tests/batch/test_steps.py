"""The commands of the steps are those of the shell, and their keys change with what their results depend on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

from das3r_ns.batch.config import STEPS
from das3r_ns.batch.look import Look, look_at
from das3r_ns.batch.steps import TARGET, Step, command, key, needs, steps_of
from das3r_ns.batch.videos import Video, VideoOptions
from das3r_ns.cli import main
from das3r_ns.frontend.config import FrontEndConfig

LOOK = Look("k", "geometric", 40, (854, 480), (512, 288))
OPTIONS = VideoOptions("das3r-light", 700, True, 0.25, 3, ("colmap", "points"), fill_holes=True)
SET = {"known_focal": 500.0, "stereo": False, "masks_dir": "/m", "masks": "given"}
VIDEO = Video("shot", Path("/clips/shot"), OPTIONS, SET)


def parsed(step: Any, kind: Any) -> Any:
    words = command(VIDEO, step, Path("/out/shot"))
    assert words[0] == "{python}" and words[1] == "-c"
    return tyro.cli(kind, args=list(words[3:]))


def test_the_masks_are_asked_for_with_the_settings_of_the_training() -> None:
    masks, train = parsed("masks", main.Command), parsed("train", AnnotatedBaseConfigUnion)
    parser = train.pipeline.datamanager.dataparser
    assert vars(masks.front_end) == vars(parser.front_end) == vars(VIDEO.settings())
    assert masks.front_end.long_side == 480 and masks.front_end.known_focal == 500 and not masks.front_end.stereo
    assert masks.data == train.data == Path("/clips/shot")
    assert (masks.threshold, masks.dilation, masks.output_dir) == (0.25, 3, Path(TARGET))
    assert parser.anyway
    assert (train.method_name, train.max_num_iterations, train.vis) == ("das3r-light", 700, "tensorboard")


def test_what_follows_opens_the_run_that_the_training_leaves() -> None:
    train = parsed("train", AnnotatedBaseConfigUnion)
    train.output_dir = Path("/out/shot/train")  # where it is renamed to
    export, plates = parsed("export", main.Command), parsed("clean-plate", main.Command)
    assert export.load_config == plates.load_config == train.get_base_dir() / "config.yml"
    assert export.format == ("colmap", "points") and plates.fill_holes and not plates.strict_holes


def test_keys_change_with_what_the_result_depends_on() -> None:
    def keys(video: Video = VIDEO, look: Look = LOOK) -> list[str]:
        return [key(video, look, name) for name in STEPS]

    def changed(**options: Any) -> list[bool]:
        other = dataclasses.replace(VIDEO, options=dataclasses.replace(OPTIONS, **options))
        return [a != b for a, b in zip(keys(), keys(other), strict=True)]

    assert keys() == keys() and len(set(keys())) == 4
    assert all(a != b for a, b in zip(keys(), keys(look=dataclasses.replace(LOOK, key="other")), strict=True))
    assert changed(threshold=0.5) == [True, False, False, False]
    assert changed(max_num_iterations=800) == changed(preset="das3r") == [False, True, True, True]
    assert changed(anyway=False) == [False, True, True, True]
    assert changed(format=()) == [False, False, True, False]
    assert changed(strict_holes=True) == [False, False, False, True]


def test_a_record_counts_only_with_its_result_and_its_key(tmp_path: Path) -> None:
    (step,) = steps_of(VIDEO, LOOK, tmp_path, ("masks",), 1)
    assert step.known() is None
    step.record.parent.mkdir(parents=True)
    step.record.write_text(f'{{"key": "{step.key}"}}')
    assert step.known() is None  # the folder is gone
    step.target.mkdir()
    assert step.known() == {"key": step.key}
    assert dataclasses.replace(step, key="other").known() is None
    step.record.write_text("{")
    assert step.known() is None


def test_longer_and_larger_videos_need_more_memory() -> None:
    def memory(step: Any, **changes: Any) -> int:
        return needs(step, dataclasses.replace(LOOK, **changes), 4, 1, None).memory

    for step in STEPS:
        assert memory(step, frames=80) > memory(step) < memory(step, size=(3840, 2160))
    # docs/results.md: davis_dog, 60 frames, 1697 MB, and comp_carton_cow, 64 frames, 1814 MB
    assert 1.8e9 < memory("masks", frames=64) < 3.6e9
    # In windows memory grows by what is kept of every frame alone.
    assert memory("masks", frames=1500) - memory("masks", frames=1400) == 100 * 512 * 288 * 20
    assert memory("masks", frames=1500, front_end="monst3r") > 3 * memory("masks", frames=1500)
    assert needs("masks", LOOK, 4, 1, None).gpus == 0 and needs("train", LOOK, 4, 1, None).gpus == 1
    assert needs("masks", dataclasses.replace(LOOK, front_end="monst3r"), 4, 1, 2.5) == needs("train", LOOK, 4, 1, 2.5)


def test_a_look_sees_the_frames_and_not_what_is_beside_them(clips: Path) -> None:
    look = look_at(clips / "ape", FrontEndConfig())
    assert (look.frames, look.size, look.front_end, look.failed) == (4, (48, 36), "geometric", None)
    (clips / "ape/notes.txt").touch()
    assert look_at(clips / "ape", FrontEndConfig()) == look
    (clips / "ape/03.png").unlink()
    assert look_at(clips / "ape", FrontEndConfig()).key != look.key


def test_a_look_says_what_is_wrong(clips: Path, tmp_path: Path) -> None:
    settings = FrontEndConfig()
    assert "does not exist" in str(look_at(clips / "gnu", settings).failed)
    assert "does not see" in str(look_at(clips / "ape", settings, tmp_path / "gone/batch.json").failed)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_writes_beside_its_record(name: Any, tmp_path: Path) -> None:
    step: Step = steps_of(VIDEO, LOOK, tmp_path, (name,), 1)[0]
    assert step.target == tmp_path / "shot" / name and step.record.parent == step.log.parent == tmp_path / "shot/batch"
    assert TARGET in step.command
