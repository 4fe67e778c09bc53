"""What the head sees of a clip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from das3r_ns.frontend.geometric.case import Case
from das3r_ns.frontend.geometric.dynamic_probability import by_rules
from das3r_ns.frontend.geometric.head.views import CONTEXT, FLAGS, MAPS, OF_LOOK, Views


def _views(case: Case) -> Views:
    return Views(case, by_rules(case.evidence, case.look))


def _flags(views: Views) -> dict[str, float]:
    return dict(zip(FLAGS, views.context.tolist(), strict=False))


@pytest.mark.parametrize("kind", ["case", "case_with_look"])
def test_maps_are_from_0_to_1(kind: str, request: pytest.FixtureRequest) -> None:
    views = _views(request.getfixturevalue(kind))
    assert len(views) == 6 and views.context.shape == (len(CONTEXT),)
    for t in range(len(views)):
        maps = views.maps(t)
        assert maps.shape == (len(MAPS), 72, 100) and maps.dtype == np.float32
        assert np.isfinite(maps).all() and maps.min() >= 0 and maps.max() <= 1


def test_tells_what_was_there_to_see(case: Case, case_with_look: Case) -> None:
    assert _flags(_views(case)) == {"has_look": 0, "has_plate": 1, "has_gone": 0, "has_parallax": 0}
    assert _flags(_views(case_with_look)) == {"has_look": 1, "has_plate": 0, "has_gone": 1, "has_parallax": 1}
    without, look = _views(case).maps(2), case_with_look.look
    assert look is not None
    for name in OF_LOOK:
        number = MAPS.index(f"look_{name}")
        assert not without[number].any()
        np.testing.assert_array_equal(_views(case_with_look).maps(2)[number], getattr(look, name)[2])


def test_neighbours_are_brought_here_by_the_flow(case: Case) -> None:
    """By a flow that leads six pixels to the left from any frame to the one before."""
    fields = {(i, j): np.tile(np.array([6.0 * (j - i), 0], np.float16), (72, 100, 1)) for i, j in case.flows.fields}
    views = _views(replace(case, flows=replace(case.flows, fields=fields)))
    before = views.maps(3)[MAPS.index("relative_before")]
    np.testing.assert_allclose(before[:, 6:], np.clip(views.relative(2)[:, :-6], 0, 1), atol=1e-6)
    assert (views.maps(3)[MAPS.index("trust_before")][:, 8:] == 1).all() and before.max() > 0.9
    ends = [views.maps(t)[MAPS.index(name)] for t, name in ((0, "trust_before"), (5, "trust_after"))]
    assert not np.any(ends)
