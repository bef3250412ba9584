import numpy as np
import pytest

from pipeline.forecast.context import SeriesContext
from pipeline.forecast.expert_pool import ExpertPool
from pipeline.forecast.experts import Expert, LastValue
from pipeline.forecast.series_rows import SeriesRows


class Fixed(Expert):
    """Says what it is told to say; sleeps when told so."""

    def __init__(self, context, label, says, asleep=lambda index: False):
        super().__init__(context)
        self.label, self.says, self.asleep = label, says, asleep

    @property
    def name(self):
        return self.label

    @property
    def awake(self):
        return not self.asleep(self.context.index)

    def forecast(self):
        return self.context.flat(self.says(self.context.index))


def run(pool, context, values, start=0):
    """Points, shape (windows, horizons); what was issued waits in a list for its label."""
    points, waiting = [], {}
    for index, value in enumerate(values, start):
        context.push(index, value)
        for expert in pool.experts:
            expert.learn_one(value)
        matured = np.array([index - step in waiting for step in context.steps])
        if value is not None and matured.any():
            none = (np.zeros(2), np.zeros((2, len(pool.experts))))
            rows = [waiting.get(index - step, none) for step in context.steps]
            point = np.array([row[0][at] for at, row in enumerate(rows)], dtype=np.float32)
            apart = np.array([row[1][at] for at, row in enumerate(rows)], dtype=np.float32)
            pool.learn(np.float32(value) - point[:, None], apart, matured)
        point, _, apart = pool.forecast()
        points.append(point)
        if value is not None:
            waiting[index] = (point, apart)
    return np.array(points)


def make(*experts):
    context = SeriesContext((1, 5), 48, 1800)
    return context, ExpertPool(SeriesRows((context,)), [LastValue(context), *[make(context) for make in experts]])


def zigzag(count):
    return np.where(np.arange(count) % 2, 12.0, 8.0)


def test_the_good_expert_takes_the_weight():
    context, pool = make(
        lambda context: Fixed(context, "good", lambda index: 12.0 if index % 2 == 0 else 8.0),
        lambda context: Fixed(context, "bad", lambda index: 40.0),
    )
    run(pool, context, zigzag(200))
    # At one window ahead and at five: both odd, so the same expert is right.
    assert (pool.weights[:, pool.names.index("good")] > 0.95).all()
    assert pool.weights.sum(axis=1) == pytest.approx([1.0, 1.0])


def test_changes_its_mind():
    context, pool = make(
        lambda context: Fixed(context, "first", lambda index: 10.0),
        lambda context: Fixed(context, "second", lambda index: 20.0),
    )
    random = np.random.default_rng(1)
    values = np.concatenate((10.0 + random.normal(0, 1, 300), 20.0 + random.normal(0, 1, 300)))
    points = run(pool, context, values)
    assert points[290] == pytest.approx([10.0, 10.0], abs=0.5)
    assert points[400:].mean(axis=0) == pytest.approx([20.0, 20.0], abs=1.0)


@pytest.mark.slow
def test_a_wild_expert_is_quarantined_and_let_back_in():
    context, pool = make(
        lambda context: Fixed(context, "wild", lambda index: 1e9 if index < 300 else 10.0),
        lambda context: Fixed(context, "steady", lambda index: 10.0),
    )
    values = 10.0 + np.random.default_rng(2).normal(0.0, 1.0, 1500)
    wild = pool.names.index("wild")
    points = run(pool, context, values[:300])
    assert pool.quarantined[:, wild].all()
    assert (pool.weights[:, wild] == 0.0).all()
    assert points[50:].max() < 20.0
    run(pool, context, values[300:], 300)
    assert not pool.quarantined.any()
    assert (pool.weights[:, wild] > 0.0).all()


def test_one_burst_does_not_decide_for_weeks():
    """An expert that happened to foresee a burst is worse than the other ever after."""
    context, pool = make(
        lambda context: Fixed(context, "lucky", lambda index: 1000.0 if index % 300 == 99 else 14.0),
        lambda context: Fixed(context, "steady", lambda index: 10.0),
    )
    values = 10.0 + np.random.default_rng(3).normal(0.0, 1.0, 160)
    values[100] = 1000.0
    run(pool, context, values)
    assert pool.weights[0, pool.names.index("steady")] > 0.8


def test_a_sleeping_expert_has_no_weight_and_no_blame():
    context, pool = make(lambda context: Fixed(context, "sleeper", lambda index: 1e6, asleep=lambda index: index < 150))
    points = run(pool, context, [10.0] * 150)
    assert (points == 10.0).all()
    assert (pool.weights[:, 1] == 0.0).all()
    assert not pool.quarantined.any()


def test_nothing_matures_in_a_gap():
    context, pool = make(lambda context: Fixed(context, "good", lambda index: 12.0))
    run(pool, context, zigzag(60))
    before = pool.weights.copy()
    run(pool, context, [None] * 10, 60)
    assert np.array_equal(pool.weights, before)


@pytest.mark.parametrize("labels", [(), ("last", "last")])
def test_refuses_none_and_twins(labels):
    context = SeriesContext((1,), 48, 1800)
    with pytest.raises(ValueError, match="distinct"):
        ExpertPool(SeriesRows((context,)), [LastValue(context) for _ in labels])
