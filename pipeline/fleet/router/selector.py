"""Which series of a router's metrics are meant: a name and labels that have to be equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import CodecError
from pipeline.exposition_sample import ExpositionSample, read_sample

__all__ = ["Selector"]


@dataclass(frozen=True, slots=True)
class Selector:
    """Series called ``name`` with all of ``labels``; other labels may have any value."""

    name: str
    labels: Mapping[str, str]

    @classmethod
    def of(cls, text: str) -> Selector:
        """Read ``name`` or ``name{label="value",…}``.

        Raises:
            CodecError: it is neither.
        """
        try:
            sample = read_sample(f"{text} 0")
        except CodecError as error:
            raise CodecError(f'{text[:120]!r} is not a selector such as name{{label="value"}}') from error
        return cls(sample.name, dict(sample.labels))

    def samples(self, page: str) -> list[ExpositionSample]:
        """Return the samples of a page of metrics that are meant.

        Raises:
            CodecError: one of them is malformed, impossible, or has a time of its own: then its age is not known, as in
                what Prometheus federates, and a count that stands still may have grown meanwhile.
        """
        found = []
        for line in page.splitlines():
            if line.startswith(self.name) and line[len(self.name) : len(self.name) + 1] in ("{", " ", "\t"):
                sample = read_sample(line)
                if self.labels.items() <= sample.labels.items():
                    if sample.dated:
                        raise CodecError(f"{self.name} has times of its own; name the router itself, not a collector")
                    found.append(sample)
        return found
