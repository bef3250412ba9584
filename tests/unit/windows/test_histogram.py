"""Log buckets: relative error, merging, quantiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.windows import histogram


@given(st.floats(1e-9, 1e12))
def test_relative_error_is_at_most_one_percent(x):
    assert histogram.value(int(histogram.bucket(x))) == pytest.approx(x, rel=0.01)


def test_zero_and_tiny_have_their_own_bucket():
    assert histogram.bucket([0.0, 1e-12]).tolist() == [histogram.ZERO_BUCKET] * 2
    assert histogram.value(histogram.ZERO_BUCKET) == 0.0
    assert histogram.values([histogram.ZERO_BUCKET, 0]).tolist() == [0.0, histogram.value(0)]


def test_values_agree_with_value():
    buckets = [-1046, -5, 0, 3, 800]
    assert histogram.values(buckets).tolist() == pytest.approx([histogram.value(b) for b in buckets])


@pytest.mark.parametrize("q", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_of_a_lognormal(q):
    sample = np.random.default_rng(7).lognormal(6, 1, 20_000)
    buckets, n = np.unique(histogram.bucket(sample), return_counts=True)
    counts = dict(zip(buckets.tolist(), n.tolist(), strict=True))
    exact = np.quantile(sample, q, method="lower")
    assert histogram.quantile(counts, q) == pytest.approx(exact, rel=0.01)


def test_quantile_of_nothing_and_of_nonsense():
    assert histogram.quantile({}, 0.5) is None
    with pytest.raises(ValueError, match="q must lie"):
        histogram.quantile({0: 1}, 1.5)
