"""Errors in Prometheus' own form (https://prometheus.io/docs/prometheus/latest/querying/api/#format-overview)."""

from __future__ import annotations

__all__ = ["QueryError", "bad_data", "too_much"]


class QueryError(Exception):
    """A query that is refused: HTTP status, Prometheus' ``errorType``, and a text for the caller."""

    def __init__(self, status: int, kind: str, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after


def bad_data(detail: str) -> QueryError:
    """Return the error of a query that cannot be read, or that asks for what is not served."""
    return QueryError(400, "bad_data", detail)


def too_much(detail: str) -> QueryError:
    """Return the error of a query whose answer would be too large."""
    return QueryError(422, "execution", detail)
