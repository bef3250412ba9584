import pickle
from dataclasses import replace

from sizing.calibration.global_fit import builtin_learned


def test_restored_tables_that_are_equal_are_one_object():
    whole = builtin_learned()
    body = pickle.dumps(whole)
    first, second = pickle.loads(body), pickle.loads(body)
    assert first is second
    assert first == whole
    other = replace(whole, near=whole.near + 1.0)
    assert pickle.loads(pickle.dumps(other)) == other != first
