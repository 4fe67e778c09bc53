"""Windows cover the video, and neighbours share enough frames."""

from __future__ import annotations

import itertools

import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.windows import MIN_SHARED, overlapping_windows


@pytest.mark.parametrize("count", [2, 99, 100, 101, 149, 150, 151, 300, 1234])
@pytest.mark.parametrize(("size", "overlap"), [(100, 0.5), (100, 0.0), (20, 0.9), (6, 0.5), (7, 0.999)])
def test_windows_cover_the_video_and_overlap(count: int, size: int, overlap: float) -> None:
    windows = overlapping_windows(count, size, overlap)
    assert windows[0].start == 0 and windows[-1].stop == count
    if count <= size:
        assert windows == [range(count)]
        return
    assert {len(window) for window in windows} == {size}
    for one, next_one in itertools.pairwise(windows):
        shared = one.stop - next_one.start
        assert shared >= max(MIN_SHARED, min(size - 1, overlap * size)) - 1e-9 and next_one.start > one.start


def test_half_overlap_takes_as_few_windows_as_can_be() -> None:
    assert overlapping_windows(300, 100, 0.5) == [range(s, s + 100) for s in (0, 50, 100, 150, 200)]
    assert len(overlapping_windows(101, 100, 0.5)) == 2


@pytest.mark.parametrize(("size", "overlap", "flag"), [(3, 0.5, "--window"), (50, 1.0, "--window-overlap")])
def test_impossible_windows_are_refused(size: int, overlap: float, flag: str) -> None:
    with pytest.raises(Das3rError, match=flag):
        overlapping_windows(10, size, overlap)
