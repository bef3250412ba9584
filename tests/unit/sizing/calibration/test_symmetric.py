"""Symmetric matrices of which half is kept."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from sizing.calibration.symmetric import SymmetricHalf


@pytest.mark.parametrize("size", [1, 2, 48])
def test_the_quadratic_form_is_that_of_the_whole_matrix(size: int) -> None:
    rng = np.random.default_rng(size)
    root, vector = rng.normal(size=(size, size)), rng.normal(size=size)
    matrix = root @ root.T
    half = SymmetricHalf(matrix)
    assert half.form(vector) == pytest.approx(float(vector @ matrix @ vector), rel=1e-12)
    assert pickle.loads(pickle.dumps(half)).form(vector) == half.form(vector)


def test_half_is_kept() -> None:
    whole = np.eye(48)
    assert len(pickle.dumps(SymmetricHalf(whole), protocol=5)) < 0.55 * len(pickle.dumps(whole, protocol=5))
