"""The rules of the verdict, each on signs that only it minds, and what becomes of their verdicts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from das3r_ns.frontend import run
from das3r_ns.frontend.config import FrontEndConfig
from das3r_ns.frontend.geometric.points.ends import Ends
from das3r_ns.frontend.geometric.points.held_back import HeldBack
from das3r_ns.frontend.signs import Signs, signs_of
from das3r_ns.frontend.verdict import Verdict, judge
from das3r_ns.progress import Progress
from das3r_ns.video.selection import listed

N = 12
GOOD = Signs(
    "general",
    flow_residual=0.2,
    focal_std=0.02,
    moves=0.1,
    matches=(400,) * N,
    links=(900,) * (N - 1),
    share=0.93,
    median=0.18,
    errors=(0.18,) * N,
    apart={"middle and border": 0.002, "every other point": 0.001},
)
"""Signs of a clip that is solved."""

TIED = {"back": (3, 140), "loops": (5, 138), "loop_matches": 900, "loop_share": 0.9}
"""And what makes one that comes back."""


def with_frame(values: tuple[Any, ...], frame: int, value: object) -> tuple[Any, ...]:
    return (*values[:frame], value, *values[frame + 1 :])


def test_a_clip_that_is_solved_is_sound() -> None:
    verdict = judge(GOOD)
    assert verdict.word == "sound" and not verdict.doubts
    assert "93 %" in verdict.message and "0.18 pixels" in verdict.message


def test_a_path_that_closes_is_sound() -> None:
    assert judge(dataclasses.replace(GOOD, **TIED)).word == "sound"


def test_a_rolling_shutter_that_is_taken_off_is_in_it() -> None:
    rolled = judge(dataclasses.replace(GOOD, readout=0.62))
    assert rolled.word == "sound" and "rolling shutter, 0.62 of the frame time, is taken off" in rolled.message
    assert Verdict.read(json.loads(json.dumps(rolled.record()))) == rolled


@pytest.mark.parametrize(
    ("changed", "word", "sign", "said"),
    [
        ({"share": 0.5}, "doubtful", "misfit", "50 %"),
        ({"share": 0.1}, "not solved", "misfit", "10 %"),
        ({"apart": {"middle and border": 0.03}}, "doubtful", "halves disagree", "--known-focal"),
        ({"apart": {"middle and border": 0.3}}, "doubtful", "halves disagree", "30.0 %"),
        ({"apart": None}, "doubtful", "few points", "Fog"),
        ({"apart": None, "matches": (9, 9)}, "doubtful", "few points", "third frame"),
        ({"focal_std": 0.5}, "doubtful", "focal unsure", "--known-focal"),
        ({"focals_apart": 0.2}, "doubtful", "focal unsure", "--known-focal"),
        ({"back": (3, 140)}, "doubtful", "ends untied", "At frame 140"),
        ({"back": (3, 140), "loops": (3, 140), "loop_matches": 5}, "doubtful", "ends untied", "At frame 140"),
        ({**TIED, "loop_share": 0.1, "gap": 0.12}, "doubtful", "drift", "miss by 12.0 %"),
        ({**TIED, "loop_share": 0.5}, "doubtful", "drift", "only 50 %"),
        ({"moves": 0.7}, "doubtful", "mostly moves", "--masks given"),
        ({"kind": "rotation", "untested": "no parallax"}, "doubtful", "no parallax", "--known-focal"),
        ({"kind": "tripod", "untested": "none", "flow_residual": 2.0}, "doubtful", "restless tripod", "--masks joined"),
    ],
)
def test_what_speaks_against_it(changed: dict[str, Any], word: str, sign: str, said: str) -> None:
    verdict = judge(dataclasses.replace(GOOD, **changed))
    assert verdict.word == word
    assert [doubt.sign for doubt in verdict.doubts] == [sign]
    assert said in verdict.message


def test_frames_that_stand_out_are_named() -> None:
    off = with_frame(with_frame(GOOD.errors, 7, 1.0), 8, 1.2)
    verdict = judge(dataclasses.replace(GOOD, errors=off))
    assert verdict.word == "doubtful" and verdict.doubts[0].frames == (7, 8)
    assert "frame 7-8" in verdict.message
    lonely = dataclasses.replace(GOOD, matches=with_frame(GOOD.matches, 3, 2), errors=with_frame(GOOD.errors, 3, None))
    assert judge(lonely).doubts[0].frames == (3,)
    torn = judge(dataclasses.replace(GOOD, steps=(0.9, None, 0.1, *(0.9,) * (N - 4))))
    assert torn.word == "doubtful" and torn.doubts[0].sign == "torn" and torn.doubts[0].frames == (3,)
    cut = judge(dataclasses.replace(GOOD, links=with_frame(GOOD.links, 4, 0)))
    assert cut.doubts[0].sign == "cut" and "before frame 5" in cut.message


def test_a_focal_that_is_a_guess_says_how_far_it_may_be_off() -> None:
    """Twice its standard error, which what people film with bounds."""
    unsure = dataclasses.replace(GOOD, focal_std=0.1, focal=0.8)
    assert judge(dataclasses.replace(unsure, focal_std=0.06)).word == "sound"
    message = judge(unsure).message
    assert "0.80 longer sides were found; anything from 0.66 to 0.97" in message and "too long" not in message
    assert "0.36 to 1.78" in judge(dataclasses.replace(unsure, focal_std=1e6)).message
    assert "0.59 to 1.08" in judge(dataclasses.replace(unsure, focals_apart=0.3)).message
    drives = judge(dataclasses.replace(unsure, ahead=0.95)).message
    assert "goes where it looks" in drives and "too long rather than too short" in drives
    assert "were found" not in judge(dataclasses.replace(unsure, focal=0.0)).message  # a record of another version


def test_the_gravest_reason_comes_first() -> None:
    verdict = judge(dataclasses.replace(GOOD, moves=0.7, share=0.1))
    assert verdict.word == "not solved"
    assert [doubt.sign for doubt in verdict.doubts] == ["misfit", "mostly moves"]


def test_where_nothing_was_tested_there_is_no_verdict_but_its_reason() -> None:
    verdict = judge(Signs("general", untested="no points were followed (--no-points)"))
    assert verdict.word == "none" and "--no-points" in verdict.message
    assert judge(Signs("tripod", untested="no parallax", flow_residual=0.1)).word == "sound"


def test_cameras_that_were_given_are_not_said_to_have_been_taken_for_others(demo_video) -> None:
    """All at one place, as of a panorama head: to name the focal would change nothing."""
    still = dataclasses.replace(demo_video.estimate, dynamic_probability=np.zeros_like(demo_video.estimate.depth))

    def verdict(kind: str, residual: float) -> Verdict:
        provenance = {"known": {"poses": {}}, "flow_residual": residual}
        return judge(signs_of(dataclasses.replace(still, camera_kind=kind, provenance=provenance)))

    assert verdict("rotation", 0.2).word == "none" and "given" in verdict("rotation", 0.2).message
    assert "given to stand" in verdict("tripod", 2.0).message and "--known-poses" in verdict("tripod", 2.0).message


@pytest.mark.parametrize("signs", [GOOD, dataclasses.replace(GOOD, share=0.1), Signs("general", untested="why")])
def test_a_verdict_comes_back_from_its_record(signs: Signs) -> None:
    verdict = judge(signs)
    again = Verdict.read(json.loads(json.dumps(verdict.record())))
    assert again == verdict
    assert Verdict.read(None) is None


def test_the_signs_are_those_of_the_matches_held_back(demo_video) -> None:
    bad = HeldBack(
        np.array([5, 0]), np.array([0.5, np.nan]), np.array([1.5, np.nan]), 0.5, 1.5, np.array([3]), np.array([0.4])
    )
    good = HeldBack(
        np.array([6, 0]), np.array([0.9, np.nan]), np.array([0.4, np.nan]), 0.9, 0.4, np.array([4]), np.array([0.95])
    )
    points = {"taken": True, "before": bad.provenance(), "after": good.provenance(), "unit": 2.0, "halves": None}
    estimate = dataclasses.replace(demo_video.estimate, provenance={"points": points, "focal_std": 0.1})
    signs = signs_of(estimate)
    assert (signs.matches, signs.share, signs.median, signs.errors) == ((6, 0), 0.9, 0.2, (0.2, None))
    assert signs.steps == (0.95,) and signs.back == ()
    assert signs.focal == round(estimate.intrinsics[0, 0, 0] / estimate.width, 4) and 0.0 < signs.ahead < 1.0
    poses = estimate.c2w_cv.copy()
    poses[:, :3, :3], poses[:, :3, 3] = np.eye(3), np.arange(len(poses))[:, None] * (0.0, 0.0, 1.0)
    assert signs_of(dataclasses.replace(estimate, c2w_cv=poses)).ahead == 1.0
    poses[:, :3, 3] = 0.0
    assert signs_of(dataclasses.replace(estimate, c2w_cv=poses)).ahead == 0.0
    ends = Ends((0, 9), ((1, 8), (1, 9), (2, 9)), 1, 0.07, False, 300, 0.1, 9.0)
    points["ends"] = ends.provenance()
    signs = signs_of(estimate)
    assert (signs.back, signs.loops, signs.loop_matches, signs.loop_share) == ((0, 9), (1, 9), 300, 0.1)
    assert signs.gap == 0.07
    estimate.provenance["together"] = {"ends": dataclasses.replace(ends, closed=True, share=0.9).provenance()}
    assert signs_of(estimate).loop_share == 0.9 and signs_of(estimate).gap == 0.0
    points["taken"] = False
    assert signs_of(estimate).share == 0.5
    given = dataclasses.replace(estimate, provenance={"known": {"poses": {}}})
    assert "given" in signs_of(given).untested


def test_frames_in_words() -> None:
    assert listed([3, 7, 8, 9, 12]) == "3, 7-9, 12"


def test_noise_is_not_solved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        noise = cv2.GaussianBlur(rng.uniform(0, 255, (108, 192, 3)), (0, 0), 3)
        cv2.imwrite(str(tmp_path / f"{number:03d}.png"), np.clip((noise - 127) * 5 + 127, 0, 255).astype(np.uint8))
    progress = Progress()
    config = FrontEndConfig(front_end="geometric", long_side=192, stereo=False)
    scene = run.load_or_estimate(tmp_path, config, progress)
    assert scene.verdict is not None and scene.verdict.word == "not solved"
    assert progress.messages[-1] == scene.verdict.message
    again = Progress()
    assert run.load_or_estimate(tmp_path, config, again).verdict == scene.verdict
    assert again.messages[-1] == scene.verdict.message
