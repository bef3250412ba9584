"""Tokentide's pipeline: request event → window → forecast → recommendation → publish."""

__version__ = "0.1.0"
