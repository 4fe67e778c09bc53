"""Ground truth is read back as the demo writes it."""

from pathlib import Path

import numpy as np
import pytest

from das3r_ns.demo.write import write_demo
from das3r_ns.errors import Das3rError
from das3r_ns.evaluation.ground_truth import GroundTruth


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    return GroundTruth(write_demo(tmp_path_factory.mktemp("truth") / "demo", num_frames=3, width=64, height=36))


def test_reads_every_part_of_the_demo(truth: GroundTruth) -> None:
    assert truth.num_frames == 3 and truth.size == (64, 36)
    assert truth.mask(1).shape == (36, 64) and 0 < truth.mask(1).mean() < 0.5
    assert truth.clean(1).shape == (36, 64, 3) and 0.0 <= truth.clean(1).min() < truth.clean(1).max() <= 1.0
    assert truth.observed(1).max() <= 3
    assert truth.c2w_cv.shape == (3, 4, 4)
    assert np.allclose(truth.c2w_cv[:, :3, :3] @ truth.c2w_cv[:, :3, :3].swapaxes(1, 2), np.eye(3), atol=1e-6)
    assert truth.intrinsics[:2, 2] == pytest.approx([32.0, 18.0])


def test_pixel_centres_at_integers_are_moved_to_half(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.png").touch()
    (tmp_path / "intrinsics.json").write_text('{"fx": 9, "fy": 9, "cx": 3.5, "cy": 2.5}')
    assert GroundTruth(tmp_path).intrinsics[:2, 2] == pytest.approx([4.0, 3.0])


def test_frames_are_found_by_name(truth: GroundTruth) -> None:
    assert truth.indices(["00002.png", "00000"]) == [2, 0]
    with pytest.raises(Das3rError, match="00007"):
        truth.indices(["00007"])


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(Das3rError, match="holds no frames"):
        GroundTruth(tmp_path)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.png").touch()
    bare = GroundTruth(tmp_path)
    assert not bare.has("masks")
    with pytest.raises(Das3rError, match="masks"):
        bare.mask(0)
    with pytest.raises(Das3rError, match="not a picture"):
        _ = bare.size
    (tmp_path / "poses.txt").write_text("1 2 3\n")
    with pytest.raises(Das3rError, match=r"poses\.txt"):
        _ = bare.c2w_cv
