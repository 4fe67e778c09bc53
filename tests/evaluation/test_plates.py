"""Which pixels of a clean plate count, and the PSNR over them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from das3r_ns.evaluation.plates import EDGE, score_plates


def test_scores_by_hand() -> None:
    covered = np.zeros((2, 20, 30), np.float32)
    covered[0, :, :10] = 1
    observed = np.ones(covered.shape, bool)
    observed[0, :5] = False
    clean = [np.full((20, 30, 3), 0.5, np.float32)] * 2
    renders = [clean[0].copy(), clean[1] + np.float32(0.01)]
    renders[0][:, :10] += 0.1  # hidden: 20 dB
    renders[0][:5, :10] = 0.9  # seen by nobody, so nobody asks
    renders[0][:, 10 : 10 + EDGE] = 0.9  # beside the mask: neither
    renders[0][:, 10 + EDGE :] += 0.001  # static: 60 dB, and 40 dB in the other frame, where nothing moves
    figures = score_plates(renders, clean, covered, observed)
    assert figures["psnr_hidden"] == pytest.approx(20, abs=1e-3)
    assert figures["psnr_static"] == pytest.approx(50, abs=0.01)
    static = (30 - 10 - EDGE) * 20, 30 * 20
    pooled = (static[0] * 1e-6 + static[1] * 1e-4) / sum(static)
    assert figures["psnr_static_pooled"] == pytest.approx(-10 * math.log10(pooled), abs=0.01)
    assert figures["hidden_percent"] == 12.5 and figures["never_seen_percent"] == pytest.approx(4.17)
