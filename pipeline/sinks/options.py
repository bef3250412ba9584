"""The options of sinks are checked like those of every extension; see ``pipeline.extension_options``."""

from __future__ import annotations

from pipeline.extension_options import Options, checked

__all__ = ["Options", "checked"]
