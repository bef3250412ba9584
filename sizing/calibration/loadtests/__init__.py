"""Load-test reports as observed points: one file per tool, each a ``Reader`` (``detect`` and ``read``).

No file is opened here: a report is the parsed content of one (``sizing.calibration.loadtests.text.parse_report``). To
add a tool, write a module with a ``Reader`` and name it in ``sizing.calibration.loadtests.registry.READERS``.
"""

from sizing.calibration.loadtests.registry import READERS, read_report, reader_of
from sizing.calibration.loadtests.types import LoadKind, LoadTest, Reader, Subject

__all__ = ["READERS", "LoadKind", "LoadTest", "Reader", "Subject", "read_report", "reader_of"]
