"""Steps of several pools side by side, so that what their decision rules cost is learned in one pass of NumPy.

A step asks with ``yield`` for what its rules have to say, and is answered once every other step has asked or ended.
Rows of different pools are never mixed: each is answered, bit for bit, as if it were alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from typing import TypeAlias, TypeVar

from pipeline.engine.decisions.decision_experts import Asking, Decision, Learning, decide_together, learn_together

__all__ = ["Stepping", "step_together"]

T = TypeVar("T")
Q = TypeVar("Q", Learning, Asking)
A = TypeVar("A")

#: The step of one pool, which asks and in the end returns what it says.
Stepping: TypeAlias = Generator[Learning | Asking, Decision | None, T]


def step_together(steps: Sequence[Stepping[T]]) -> list[T]:
    """Run steps of different pools to their end; return what each says."""
    said: dict[int, T] = {}
    answers: dict[int, Decision | None] = dict.fromkeys(range(len(steps)))
    while answers:
        learning: dict[int, Learning] = {}
        asking: dict[int, Asking] = {}
        for at, answer in answers.items():
            try:
                question = steps[at].send(answer)
            except StopIteration as ended:
                said[at] = ended.value
                continue
            if isinstance(question, Learning):
                learning[at] = question
            else:
                asking[at] = question
        answers = {**_answered(learning, learn_together), **_answered(asking, decide_together)}
    return [said[at] for at in range(len(steps))]


def _answered(questions: dict[int, Q], answer: Callable[[Sequence[Q]], Sequence[A]]) -> dict[int, A]:
    """Answer questions, those of alike rules together."""
    alike: dict[Hashable, list[int]] = {}
    for at, question in questions.items():
        alike.setdefault(question.experts.alike, []).append(at)
    return {
        at: found
        for group in alike.values()
        for at, found in zip(group, answer([questions[at] for at in group]), strict=True)
    }
