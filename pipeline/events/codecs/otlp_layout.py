"""The layout of a span's bytes: what follows what in OTLP protobuf, learned from one span, to read others like it.

Instrumentation writes the same fields and attributes in the same order again and again. A *layout* is that order with,
for each step, what may differ from span to span:

- ``fixed``: a field of so many bytes, whatever they are (ids, times, flags); ``same``: the very bytes of the sample;
- ``any``: a field of any content that nobody reads; ``name``: the span's name;
- ``unread``: an attribute that nobody reads;
- ``count``, ``seconds``, ``milliseconds``: an attribute that is a number of its own in every request; ``text`` and
  ``flag``: one that is read only for being a text, or true or false;
- ``class``: an attribute, or the status, with one of few values: spans that agree in all of these are of one class and
  say the same but for their ids, times and numbers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from google.protobuf.message import DecodeError

from pipeline.events.codecs import otlp_langfuse as langfuse
from pipeline.events.codecs.otlp_messages import KEY_VALUE
from pipeline.events.codecs.otlp_names import ATTRIBUTES, FIELDS, REQUEST_NAME
from pipeline.events.protobuf_columns import varint

__all__ = ["BOOL", "DOUBLE", "INT", "STRING", "VALUE", "Layout", "Role", "Step", "learn"]

Role = Literal["fixed", "same", "any", "name", "unread", "class", "text", "flag", "count", "seconds", "milliseconds"]

# Tags of ``Span`` and the bytes of what they announce, where those are always as many.
_FIXED = {
    0x0A: (b"\x0a\x10", "trace_id", 16),
    0x12: (b"\x12\x08", "span_id", 8),
    0x39: (b"\x39", "start", 8),
    0x41: (b"\x41", "end", 8),
    0x85: (b"\x85\x01", "flags", 4),
}
_NAME, _ATTRIBUTE, _STATUS = 0x2A, 0x4A, 0x7A
_SMALL = b"\x30\x50\x60\x70"  # kind, and counts of what was dropped
_UNREAD = b"\x1a\x22\x6a"  # trace state, parent, links
_KEY, VALUE = 0x0A, 0x12  # tags of KeyValue
STRING, BOOL, INT, DOUBLE = 0x0A, 0x10, 0x18, 0x21  # tags of AnyValue
_NEEDED = {"trace_id", "span_id", "start", "end"}
#: A longer span, or one of more parts, is not worth a layout.
_MOST_BYTES = 65_536
_MOST_STEPS = 128
_MOST_SHORT = 0x7F

#: Event fields whose numbers are columns, or which are looked at only for being a number within its bounds.
_COUNTS = frozenset(("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_output_tokens"))
_UNCOUNTED = frozenset(("max_output_tokens", "n"))
_SECONDS = frozenset(("ttft_seconds", "e2e_seconds", "queue_seconds", "prefill_seconds", "decode_seconds"))
_TEXTS = frozenset(("request_id",))
_FLAGS = frozenset(("gen_ai.request.stream", "llm.is_streaming"))
_UNFIT = frozenset((langfuse.USAGE, langfuse.COMPLETION_START))
_KINDS: dict[Role, tuple[str, ...]] = {
    "text": ("string_value",),
    "flag": ("bool_value",),
    "count": ("int_value",),
    "seconds": ("int_value", "double_value"),
    "milliseconds": ("int_value", "double_value"),
}


class Step(NamedTuple):
    """One field of a span, tag included.

    ``head`` is how it begins in the sample, up to what may differ. Of a field with a length, ``piece`` is what comes
    first in it and ``tail`` what comes last (an attribute's name, and the value's tag where the value is read).
    ``name``: what is read of it, empty where nothing is. ``size``: bytes of a ``fixed`` one after its head, else of the
    content in the sample. ``sample``: the whole field in the sample, where it may be the same everywhere.
    """

    role: Role
    name: str
    head: bytes
    piece: bytes = b""
    size: int = 0
    sample: bytes = b""
    tail: bytes = b""


class Layout(NamedTuple):
    """``steps`` in order. ``numbers``: event field to the name of the step that has it. ``constant``: what layouts of
    the same steps, learned from spans of the same class, have in common."""

    steps: tuple[Step, ...]
    numbers: dict[str, str]
    constant: tuple[tuple[Role, str, bytes], ...]


def learn(span: bytes) -> Layout | None:
    """Return the layout of a span that protobuf's parser accepts; None: it has none that is read in columns."""
    if len(span) > _MOST_BYTES:
        return None
    steps: list[Step] = []
    at = 0
    while at < len(span):
        step, at = _step(span, at)
        if step is None or len(steps) == _MOST_STEPS:
            return None
        steps.append(step)
    names = [step.name for step in steps if step.name]
    if len(set(names)) < len(names) or not _NEEDED.issubset(names):
        return None
    constant = tuple((step.role, step.name, step.head if step.role == "same" else step.sample) for step in steps)
    return Layout(tuple(steps), _numbers(names), constant)


def _numbers(names: list[str]) -> dict[str, str]:
    """Which attribute each number of the event comes from, as ``otlp_spans.fields_of`` chooses."""
    numbers: dict[str, str] = {}
    ranks: dict[str, int] = {}
    for name in names:
        if name in FIELDS:
            field, rank, _ = FIELDS[name]
            if field in _COUNTS | _SECONDS and rank <= ranks.get(field, rank):
                numbers[field], ranks[field] = name, rank
    return numbers


def _step(span: bytes, at: int) -> tuple[Step | None, int]:
    """The step at a position, and the position after it."""
    tag = span[at]
    if tag in _FIXED:
        head, name, size = _FIXED[tag]
        return (Step("fixed", name, head, size=size) if span.startswith(head, at) else None), at + len(head) + size
    number, start = varint(span, at + 1)
    if start < 0:
        return None, at
    if tag in _SMALL:
        return Step("same", f"field {tag}", span[at:start]), start
    end = start + number
    content, whole = span[start:end], span[at:end]
    if end > len(span):
        return None, at
    if tag in _UNREAD:
        repeated = tag == _UNREAD[-1]
        return Step("any", "" if repeated else f"field {tag}", span[at:start], size=number), end
    if tag == _NAME:
        role: Role = "same" if content == REQUEST_NAME.encode() else "name"
        return Step(role, "name", whole if role == "same" else span[at:start], size=number), end
    if tag == _STATUS and number <= _MOST_SHORT:
        return Step("class", "status", span[at:start], b"", number, whole), end
    return (_attribute(whole, content) if tag == _ATTRIBUTE else None), end


def _attribute(whole: bytes, content: bytes) -> Step | None:
    """The step of an attribute; None: it is not written as it always is, or too much of its own in every span."""
    found = _name_of(content)
    if found is None:
        return None
    name, piece, tail = found
    head = whole[: len(whole) - len(content) + len(piece)]
    if name not in ATTRIBUTES:
        return Step("unread", "", head, piece, len(content), tail=tail)
    if len(content) > _MOST_SHORT or name in _UNFIT:
        return None
    field = FIELDS[name][0] if name in FIELDS else ""
    varying = field in _COUNTS | _UNCOUNTED | _SECONDS | _TEXTS
    if not varying and name not in _FLAGS:
        return Step("class", name, head, piece, len(content), whole, tail)
    role: Role = "count"
    if field in _SECONDS:
        role = "milliseconds" if name.startswith("ai.") else "seconds"
    elif field in _TEXTS:
        role = "text"
    elif name in _FLAGS:
        role = "flag"
    if not _readable(content, role):
        return None
    return Step(role, name, head + bytes([VALUE]), piece + bytes([VALUE]), len(content), tail=tail)


def _name_of(content: bytes) -> tuple[str, bytes, bytes] | None:
    """An attribute's name, and what comes before its value and after it: SDKs write the key first, the collector last;
    None: neither."""
    if len(content) < 2 or content[0] not in (_KEY, VALUE):
        return None
    at = 0
    if content[0] == VALUE:
        length, start = varint(content, 1)
        at = start + length
        if start < 0 or at + 2 > len(content) or content[at] != _KEY:
            return None
    end = at + 2 + content[at + 1]
    if content[at + 1] > _MOST_SHORT or end > len(content) or (at and end < len(content)):
        return None
    key = content[at:end]
    try:
        name = key[2:].decode()
    except UnicodeDecodeError:
        return None
    return (name, b"", key) if at else (name, key, b"")


def _readable(content: bytes, role: Role) -> bool:
    """Whether the value of the sample is of the kind that columns of the role have."""
    try:
        kind = KEY_VALUE.FromString(content).value.WhichOneof("value")
    except DecodeError:
        return False
    return kind in _KINDS[role]
