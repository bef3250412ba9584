"""The errors that sizing raises on purpose; each text is one line that a user can act on."""

from __future__ import annotations

__all__ = ["DoesNotFit", "InvalidInput", "NoKernel", "SizingError", "UnknownGpu", "UnknownModel"]


class SizingError(ValueError):
    """Root of every error that ``sizing`` raises on purpose."""


class InvalidInput(SizingError):
    """A number or a name that cannot mean anything here: negative, not finite, unknown precision, odd shape."""


class NoKernel(InvalidInput):
    """A precision of weights that the engine cannot serve on the GPU; the text says which it can."""


class UnknownModel(SizingError):
    """A model that is neither in the catalogue nor given as a Hugging Face configuration that can be understood."""


class UnknownGpu(SizingError):
    """A GPU that is not in the catalogue."""


class DoesNotFit(SizingError):
    """The weights and reserves leave no room for a KV cache; the text says by how much and what would make it fit."""
