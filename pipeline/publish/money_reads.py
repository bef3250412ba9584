"""The read of the HTTP API about money."""

from __future__ import annotations

from itertools import islice

from aiohttp import web

from pipeline.publish.http.answer import json_answer
from pipeline.publish.http.page import NAME_CURSOR, list_schema, name_place, page_members
from pipeline.publish.http.parameter import whole
from pipeline.publish.http.route import Route
from pipeline.publish.money import pool_money_data
from pipeline.publish.state import LiveState

__all__ = ["MoneyReads"]

_MAX_POOLS = 1_000  # in one answer
_LIMIT = whole("limit", 1, _MAX_POOLS, _MAX_POOLS, description="entries in one answer")


class MoneyReads:
    """The handler over a LiveState."""

    def __init__(self, live: LiveState) -> None:
        self._live = live

    def routes(self) -> list[Route]:
        """Return the entries of the route table."""
        answer = list_schema(
            "pools",
            {"$ref": "#/components/schemas/PoolMoney"},
            now={"type": "number"},
            as_of={"type": ["number", "null"], "description": "end of the newest closed window"},
            currency={"const": "USD"},
        )
        summary = "What each configured pool costs now and as advised, per token and against an API, and what it saves."
        described = "one entry for each configured pool; without a price its figures are null"
        return [
            Route("/v1/money", "money", summary, self.money, answer, (_LIMIT, NAME_CURSOR), (400,), described=described)
        ]

    async def money(self, request: web.Request) -> web.Response:
        """What each configured pool costs."""
        limit, after = _LIMIT.read(request) or _MAX_POOLS, NAME_CURSOR.read(request)
        at = self._live.snapshot()
        when = at.now if at.as_of is None else float(at.as_of)
        later = (v for v in at.pools if v.settings is not None and (after is None or tuple(v.key) > after))
        page = list(islice(later, limit + 1))
        found = [pool_money_data(view, when) for view in page[:limit]]
        cut = name_place(*page[limit - 1].key) if len(page) > limit else None
        return json_answer({"now": at.now, "as_of": at.as_of, "currency": "USD", "pools": found, **page_members(cut)})
