"""Pair graphs: the official ones as sets, without their faults on short clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from das3r_ns.errors import Das3rError
from das3r_ns.frontend.pairs import DEFAULT_GRAPH, graph_for, make_pairs, strided_pairs

OFFICIAL = json.loads((Path(__file__).parents[1] / "reference" / "pairs.json").read_text())
GRAPHS = {name: graph for name, graph in OFFICIAL["graphs"].items() if not name.startswith("eval")}
CLIPS = {int(count): graph for count, graph in OFFICIAL["eval_graph_string"].items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_official_graph(name: str) -> None:
    count, graph = name.split(":")
    official = GRAPHS[name]
    pairs = make_pairs(int(count), graph)
    assert len(pairs) == len(set(pairs)) == official["n"] == official["n_unique"]
    if "edges" in official:
        assert set(pairs) == {(i, j) for i, j in official["edges"]}
    if "edges_sorted_forward_only" in official:
        forward = {(i, j) for i, j in official["edges_sorted_forward_only"]}
        assert {(min(pair), max(pair)) for pair in pairs} == forward


def test_mirror_images_come_second_in_the_same_order() -> None:
    pairs = make_pairs(12)
    half = len(pairs) // 2
    assert pairs[half:] == [(j, i) for i, j in pairs[:half]]
    assert make_pairs(12, symmetrize=False) == pairs[:half]


@pytest.mark.parametrize("count", CLIPS)
def test_graph_fits_the_clip_and_stays_non_cyclic(count: int) -> None:
    graph = graph_for(count)
    assert graph == CLIPS[count].removesuffix("-noncyclic") + "-noncyclic"
    # Without the suffix the official one comes out.
    if not CLIPS[count].endswith("noncyclic"):
        name = f"eval{count}:{CLIPS[count]}"
        official = OFFICIAL["graphs"].get(name)
        if official is not None:
            assert set(make_pairs(count, graph_for(count, "swinstride-5"))) == {(i, j) for i, j in official["edges"]}


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 9, 10, 95, 96, 300])
def test_every_length_has_a_connected_graph_that_is_no_ring(count: int) -> None:
    pairs = make_pairs(count, graph_for(count))
    assert {frame for pair in pairs for frame in pair} == set(range(count))
    # What a frame at the end of the clip has beyond it is left out, not taken from the start.
    window = int(graph_for(count).split("-")[1])
    assert {j - i for i, j in pairs if i < j} == {d for d in range(1, 2 * window, 2) if d < count}
    assert all((i, j) in pairs for i in range(count) for j in range(i + 1, min(i + 2 * window, count), 2))


def test_two_frames_are_one_pair_each_way() -> None:
    for graph in (graph_for(2), DEFAULT_GRAPH, "swin-1-noncyclic", "oneref-0", "logwin-3"):
        assert make_pairs(2, graph) == [(0, 1), (1, 0)]
    assert make_pairs(2, "complete") == [(1, 0), (0, 1)]


def test_long_clips_have_pairs_in_proportion() -> None:
    assert len(make_pairs(50)) == 450
    assert graph_for(96) == "swinstride-4-noncyclic"
    assert graph_for(96, "swin-15") == "swin-15"
    assert graph_for(4, "complete") == "complete" and graph_for(4, "oneref-3") == "oneref-3"


@pytest.mark.parametrize(
    ("count", "graph", "words"),
    [
        (1, DEFAULT_GRAPH, "two frames"),
        (5, "ring-3", "no pair graph 'ring-3'"),
        (5, "swinstride-5-noncylic", "no pair graph 'swinstride-5-noncylic'"),  # would close to a ring
        (5, "swin-five", "no pair graph 'swin-five'"),
        (5, "oneref-5", "only 5"),
        (3, "swinskip_start-2-noncyclic", "does not connect"),
        (5, "swin-0", "does not connect"),
    ],
)
def test_refuses_what_gives_no_scene(count: int, graph: str, words: str) -> None:
    with pytest.raises(Das3rError, match=words):
        make_pairs(count, graph)


def test_a_ring_never_pairs_a_frame_with_itself() -> None:
    assert all(i != j for i, j in make_pairs(5, "swin-9"))


def test_strided_pairs_come_in_mirrors() -> None:
    pairs = strided_pairs(4, (1, 2, 9))
    assert pairs == [(0, 1), (0, 2), (1, 0), (1, 2), (1, 3), (2, 0), (2, 1), (2, 3), (3, 1), (3, 2)]


def test_strides_of_powers_of_two_are_a_graph_of_the_network_too() -> None:
    assert strided_pairs(40, (1, 2, 4, 8, 16)) == sorted(make_pairs(40, "logwin-5-noncyclic"))
