from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from openapi_spec_validator import validate
from referencing import Registry, Resource

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from publish_feed import Feed, Server

from pipeline.publish.api import create_app

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
SPEC = yaml.safe_load((SCHEMAS / "openapi.yaml").read_text(encoding="utf-8"))
PAGES = {"/", "/static/plotly.min.js", "/static/{name}"}


def _registry() -> Registry:
    registry = Registry()
    for path in SCHEMAS.glob("*.v1.schema.json"):
        contents = json.loads(path.read_text(encoding="utf-8"))
        registry = registry.with_resource(path.name, Resource.from_contents(contents))
    spec = {"$schema": "https://json-schema.org/draft/2020-12/schema", **SPEC}
    return registry.with_resource("openapi.yaml", Resource.from_contents(spec))


def _absolute(node: Any) -> Any:
    """The same schema with references into the document made absolute."""
    if isinstance(node, dict):
        return {k: f"openapi.yaml{v}" if k == "$ref" and v.startswith("#") else _absolute(v) for k, v in node.items()}
    return [_absolute(item) for item in node] if isinstance(node, list) else node


def _check(body: bytes, schema: Any) -> None:
    jsonschema.Draft202012Validator(_absolute(schema), registry=_registry()).validate(json.loads(body))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    feed = Feed()
    feed.step(180)
    with Server(feed) as server:
        yield server


def test_the_document_is_valid():
    validate(SPEC, base_uri=(SCHEMAS / "openapi.yaml").as_uri())


def test_it_names_exactly_the_routes_that_exist():
    feed = Feed()
    server = Server(feed)
    app = create_app(feed.live, feed, server.settings, feed.clock)
    served = {r.resource.canonical for r in app.router.routes() if r.method == "GET" and r.resource is not None}
    assert {re.sub(r":[^/]*?\}", "}", path) for path in served} - PAGES == set(SPEC["paths"])


@pytest.mark.parametrize("path", [p for p in SPEC["paths"] if p != "/metrics"])
def test_every_answer_is_as_described(server, path):
    address = path.replace("{model}", "meta-llama%2FLlama-3.3-70B-Instruct").replace("{pool}", "chat")
    with urllib.request.urlopen(server.url + address, timeout=10) as response:
        body = response.read()
    responses = SPEC["paths"][path]["get"]["responses"]
    _check(body, responses["200"]["content"]["application/json"]["schema"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/recommendations/no/such", 404),
        ("/v1/windows/llama-3.1-8b-instruct/chat?grain_seconds=7", 400),
    ],
)
def test_errors_are_problem_documents(server, path, status):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(server.url + path, timeout=10)
    assert error.value.code == status
    problem = SPEC["components"]["responses"]["Problem"]["content"]["application/problem+json"]["schema"]
    _check(error.value.read(), problem)
