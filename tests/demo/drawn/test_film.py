"""Film: light that drifts, blur along the flow, noise; a perfect one changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from das3r_ns.demo.drawn.film import GAMMA, Film, smeared

PERFECT = Film(0.45, np.zeros((3, 3)), 0.0, 0.0, 0.0, 0.0, 0, 0.0)
LIGHT = np.random.default_rng(0).uniform(0.05, 0.9, (40, 60, 3)).astype(np.float32)


def _exposed(film: Film, light: np.ndarray = LIGHT, time: float = 0.3) -> np.ndarray:
    return film.expose(light, 1.0, None, time, np.random.default_rng(1)).astype(float)


def test_a_perfect_film_encodes() -> None:
    np.testing.assert_allclose(_exposed(PERFECT), LIGHT ** (1 / GAMMA) * 255, atol=0.51)


def test_faults_are_as_large_as_they_say() -> None:
    grey = np.full((64, 64, 3), 0.4, np.float32)
    plain = _exposed(PERFECT, grey)
    assert _exposed(replace(PERFECT, shot=0.02), grey).std() > 2 > plain.std()
    drift = np.array([[0.2, 0.0, 0.05], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    drifted = _exposed(replace(PERFECT, drift=drift), grey, 0.25)
    ratio = (drifted / plain) ** GAMMA
    np.testing.assert_allclose(ratio[0, 0], (1.2, 1.2, 1.26), atol=0.02)
    packed = _exposed(replace(PERFECT, quality=60))
    assert 1 < np.abs(packed - _exposed(PERFECT)).mean() < 60
    flat = np.zeros((64, 64, 3), np.float32)
    flat[..., 0] = 0.5
    red = _exposed(replace(PERFECT, quality=90), flat)
    assert red[..., 0].mean() > 150 and red[..., 2].mean() < 20  # the channels keep their order


def test_the_exposure_is_set_by_the_middle() -> None:
    for level in (0.05, 0.6):
        light = np.full((8, 8, 3), level, np.float32)
        shown = PERFECT.expose(light, PERFECT.gain(light), None, 0.5, np.random.default_rng(0))
        np.testing.assert_allclose(shown / 255, 0.45, atol=0.01)


def test_blur_runs_along_the_flow() -> None:
    light = np.zeros((21, 41, 3), np.float32)
    light[10, 20] = 1
    flow = np.zeros((21, 41, 2), np.float32)
    np.testing.assert_array_equal(smeared(light, flow), light)
    flow[..., 0] = 6
    trail = smeared(light, flow)[..., 0]
    assert (trail[10] > 0.05).sum() == 7 and trail[[9, 11]].max() == 0 and abs(trail.sum() - 1) < 1e-5


def test_films_differ_and_some_are_perfect() -> None:
    films = [Film.of(np.random.default_rng(seed)) for seed in range(40)]
    perfect = [film.quality == 0 and film.read == 0 and film.blur == 0 and film.shutter == 0 for film in films]
    assert 3 < sum(perfect) < 20
    assert any(film.shutter for film in films) and any(0 < film.quality < 70 for film in films)
