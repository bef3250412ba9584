from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.examples.support import EMITTERS


@pytest.fixture
def emitter(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(EMITTERS)
    return lambda name: importlib.import_module(f"tokentide_emitter.{name}")
