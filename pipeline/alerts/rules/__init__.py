"""The alert rules of this distribution: one module each, which defines ``RULE``."""
