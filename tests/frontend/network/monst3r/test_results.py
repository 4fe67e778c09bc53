"""What the network gives reaches the CPU whole, also where it comes from a GPU while the next batch is computed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from das3r_ns.frontend.network.monst3r.results import NotFinite, Results, take_places

GPU = torch.device("cuda:1")
PAIRS = [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2)]


class Pinned(Tensor):
    """Memory that a copy reaches only once its stream has got there."""

    underway: list[Callable[[], object]]

    def copy_(self, source: Tensor, non_blocking: bool = False) -> Tensor:
        assert non_blocking
        plain, values = self.as_subclass(Tensor), source.clone()
        self.underway.append(lambda: plain.copy_(values))
        return self


class Event:
    """An event of a stream: whoever waits for it finds what was copied before."""

    underway: list[Callable[[], object]]

    def record(self, stream: object) -> None:
        assert stream == f"stream of {GPU}", "the current stream may be another GPU's"
        self.before = list(self.underway)
        self.underway.clear()

    def synchronize(self) -> None:
        for copy in self.before:
            copy()


@pytest.fixture()
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """A second GPU whose copies take their time; the copies under way that no event waits for yet."""
    underway: list[Callable[[], object]] = []
    monkeypatch.setattr(Pinned, "underway", underway, raising=False)
    monkeypatch.setattr(Event, "underway", underway, raising=False)

    def pinned(like: Tensor, *, device: str, pin_memory: bool) -> Tensor:
        assert device == "cpu" and pin_memory
        filler = torch.ones(like.shape, dtype=like.dtype) if like.dtype == torch.bool else torch.full_like(like, -1.0)
        return filler.as_subclass(Pinned)

    monkeypatch.setattr(torch, "empty_like", pinned)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    return underway


def outputs(numbers: list[int]) -> dict[str, Tensor]:
    """Of a network, a number of its own for every pair."""
    values = torch.tensor(numbers, dtype=torch.float32)[:, None, None].expand(-1, 2, 3)
    points = values[..., None].expand(-1, -1, -1, 3)
    return {"pts3d": points, "pts3d_in_other_view": points + 10, "conf": values + 20, "conf2": values + 30}


def test_copies_from_a_gpu_are_waited_for(gpu: list) -> None:
    results = Results(PAIRS, (2, 3), masks=False, storage=torch.float32, device=GPU)
    for numbers in ([0, 3], [1, 2], [4]):
        results.add(numbers, outputs(numbers))
    found = results.finish()
    expected = outputs([0, 1, 2, 3, 4])
    torch.testing.assert_close(found.points1, expected["pts3d"])
    torch.testing.assert_close(found.confidence2, expected["conf2"])
    assert found.dynamic1 is None and found.pairs == PAIRS


def test_values_that_are_not_finite_are_found_once_they_have_arrived(gpu: list) -> None:
    results = Results(PAIRS, (2, 3), masks=False, storage=torch.float16, device=GPU)
    broken = outputs([1, 2])
    broken["conf"] = broken["conf"].clone()
    broken["conf"][1, 0, 0] = torch.nan
    results.add([1, 2], broken)
    with pytest.raises(NotFinite) as caught:
        results.add([0], outputs([0]))
    assert caught.value.pair == (1, 2)


def test_pairs_that_are_known_keep_their_places() -> None:
    pairs, new = take_places([(0, 1), (1, 0), (0, 2), (1, 2)], [(0, 1), (1, 2), (2, 1), (1, 3)], shift=1)
    assert pairs == [(1, 2), (0, 1), (1, 0), (0, 2)]
    assert new == [0]
