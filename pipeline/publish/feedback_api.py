"""``POST /v1/alerts/feedback``: an operator marks an alert as false or useful."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from pipeline.alerts.feedback import ALERT_ID_PATTERN, MAX_ALERT_ID, NotRaisedYetError, Verdict, feedback_record
from pipeline.clock import Clock
from pipeline.forecast.calendar.effects import CalendarRecord, to_fields
from pipeline.publish.http.route import Role, Route
from pipeline.publish.json import to_json
from pipeline.publish.problem import ProblemError

__all__ = ["SendRecord", "feedback_route"]

#: Writes one record to the calendar topic and returns once the broker has it.
SendRecord = Callable[[CalendarRecord], Awaitable[object]]

_FIELDS = {"alert_id", "verdict"}

_BODY = {
    "type": "object",
    "required": ["alert_id", "verdict"],
    "additionalProperties": False,
    "properties": {
        "alert_id": {
            "type": "string",
            "pattern": ALERT_ID_PATTERN,
            "maxLength": MAX_ALERT_ID,
            "description": "of an observed spike, as `/v1/alerts` has it",
        },
        "verdict": {"enum": [verdict.value for verdict in Verdict]},
    },
}
#: A record of the calendar.
_ANSWER = {
    "type": "object",
    "required": ["id", "kind", "starts_at", "ends_at", "scope"],
    "properties": {
        "id": {"type": "string"},
        "kind": {"enum": [f"alert_feedback:{verdict}" for verdict in Verdict]},
        "starts_at": {"type": "number"},
        "ends_at": {"type": "number"},
        "scope": {
            "type": "object",
            "required": ["model", "pool"],
            "properties": {"model": {"type": "string"}, "pool": {"type": "string"}},
        },
    },
}


def feedback_route(clock: Clock, send: SendRecord | None) -> Route:
    """The entry of the route table; without ``send`` it answers 503. It takes a token that may change the calendar.

    Only a body of type ``application/json`` is read, which a page of another origin cannot send.
    """

    async def mark(request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            raise ProblemError(415, f"the body must be application/json, not {request.content_type[:64]}")
        try:
            asked = json.loads(await request.read())
        except (ValueError, RecursionError) as error:
            raise ProblemError(400, f"the body is not JSON: {error}") from error
        if not isinstance(asked, dict) or set(asked) != _FIELDS or not all(isinstance(v, str) for v in asked.values()):
            raise ProblemError(400, "the body must be an object with the texts alert_id and verdict, nothing else")
        try:
            record = feedback_record(asked["alert_id"], asked["verdict"], clock.now())
        except NotRaisedYetError as error:
            raise ProblemError(409, str(error)) from error
        except ValueError as error:
            raise ProblemError(400, str(error)) from error
        if send is None:
            raise ProblemError(503, "marks cannot be written from here; use `tokentide spikes feedback`")
        await send(record)
        return web.Response(body=to_json(to_fields(record)), status=202, content_type="application/json")

    summary = "Mark an observed spike as false or useful, which moves the threshold of its pool."
    return Route("/v1/alerts/feedback", "markAlert", summary, mark, _ANSWER, problems=(400, 409, 413, 415, 503),
                 role=Role.CALENDAR, methods=("POST",), described="the mark is on its way", body=_BODY,
                 status=202)  # fmt: skip
