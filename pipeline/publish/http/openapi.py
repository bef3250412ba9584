"""The OpenAPI 3.1 document, made of the route table; ``schemas/openapi.yaml`` is a copy.

python -m pipeline.publish.http.openapi [--check]
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import resources
from pipeline.publish.http.route import Role, Route

__all__ = ["document"]

_COMPONENTS = Path(__file__).with_name("components.yaml")
#: Messages with a schema of their own, by the name that answers use for them.
_MESSAGES = {"Recommendation": "recommendation", "Forecast": "forecast", "Alert": "alert"}
_PROBLEM = {"$ref": "#/components/responses/Problem"}
_DESCRIPTION = """\
Times are epoch seconds of event time. `null` is unknown, never 0. Errors are problem documents (RFC 9457).
A model name that contains slashes is percent-encoded (`meta-llama%2FLlama-3.3-70B-Instruct`); plain slashes work too.

Answers have an entity tag: a request with `If-None-Match` is answered with 304 while nothing has changed. Lists have at
most `limit` entries; where `truncated` is true there are more, and `next_cursor` is the `cursor` that asks for them.

How to follow a recommendation: ignore it after `expires_at`; ignore a `generation` that is not above the last one
seen; never scale down on a `state` other than `fresh`; hold, never go to zero, when there is no valid recommendation.
"""


def document(table: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI document of a route table, with every schema in it."""
    paths: dict[str, Any] = {}
    for route in table:
        if not route.listed:
            continue
        item = paths.setdefault(route.path, {})
        names = re.findall(r"\{(\w+)\}", route.path)
        if names:
            item["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in names]
        for method in route.methods:
            item[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tokentide",
            "version": "1",
            "summary": "LLM inference demand, forecasts and GPU recommendations.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}, {"basic": []}],
        "paths": paths,
        "components": _components(),
    }


def _operation(route: Route, method: str) -> dict[str, Any]:
    told: dict[str, Any] = {"operationId": route.operation, "summary": route.summary}
    parameters = [parameter.described() for parameter in route.parameters]
    tagged = method == "GET" and route.answer is not None and route.role is not None
    if route.body is not None:
        content = {"application/json": {"schema": dict(route.body)}}
        told["requestBody"] = {"required": True, "content": content}
    elif method == "POST":
        told["operationId"] += "ByForm"
        fields = {p.name: {**p.schema, "description": p.description} for p in route.parameters}
        required = [parameter.name for parameter in route.parameters if parameter.required]
        schema = {"type": "object", "properties": fields} | ({"required": required} if required else {})
        content = {"application/x-www-form-urlencoded": {"schema": schema}}
        told["requestBody"] = {"required": bool(required), "content": content}
    else:
        condition = {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}
        told["parameters"] = [*parameters, *([condition] if tagged else [])]
    good: dict[str, Any] = {"description": route.described or route.summary}
    answer = {"type": "string"} if route.answer is None else dict(route.answer)
    good["content"] = {route.media_type: {"schema": answer}}
    responses: dict[str, Any] = {str(route.status): good}
    if tagged:
        good["headers"] = {"ETag": {"required": True, "schema": {"type": "string"}}}
        responses["304"] = {"description": "unchanged"}
    # 400 also stands for what is no HTTP, such as a header that is too long.
    refused = {400, *route.problems, *((401, 403) if route.role is not None else ())}
    responses |= {str(status): route.refusals.get(status, _PROBLEM) for status in sorted(refused)}
    told["responses"] = responses
    if route.role is None:
        told["security"] = [{}]
    elif route.role is not Role.READ:
        told["security"] = [{"bearer": []}, {"basic": []}]
    return told


@cache
def _components() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(_COMPONENTS.read_text(encoding="utf-8"))
    for name, file in _MESSAGES.items():
        schema = json.loads(resources.find(f"schemas/{file}.v1.schema.json").read_text(encoding="utf-8"))
        found["schemas"][name] = {k: v for k, v in schema.items() if k not in ("$schema", "$id")}
    return found


def main() -> int:
    """Write ``schemas/openapi.yaml``; with ``--check``, say whether it is as the code would write it."""
    from pipeline.publish.api import described

    file = resources.find("schemas/openapi.yaml")
    text = (
        "# Made from the route table of pipeline/publish: python -m pipeline.publish.http.openapi\n"
        + yaml.safe_dump(json.loads(json.dumps(document(described()))), sort_keys=False, width=120, allow_unicode=True)
    )
    if "--check" in sys.argv[1:]:
        if file.read_text(encoding="utf-8") == text:
            return 0
        print(f"{file} is not what the route table says; run python -m pipeline.publish.http.openapi", file=sys.stderr)
        return 1
    file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
