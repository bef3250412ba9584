"""The OpenAPI document, the route table and the answers say the same."""

from __future__ import annotations

import json
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

from pipeline.publish.api import described
from pipeline.publish.http.openapi import document
from tests.publish_feed import Feed
from tests.publish_server import Server
from tests.stock_feed import share_stock
from tests.waiting import scaled

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
SPEC = document(described())
JSON_PATHS = [
    path for path, item in SPEC["paths"].items() if "get" in item and path != "/metrics" and "/prometheus/" not in path
]


def _absolute(node: Any) -> Any:
    """The same schema with references into the document made absolute."""
    if isinstance(node, dict):
        return {k: f"urn:api{v}" if k == "$ref" and v.startswith("#") else _absolute(v) for k, v in node.items()}
    return [_absolute(item) for item in node] if isinstance(node, list) else node


def _check(body: bytes, schema: Any) -> None:
    spec = {"$schema": "https://json-schema.org/draft/2020-12/schema", **SPEC}
    registry: Registry = Registry().with_resource("urn:api", Resource.from_contents(spec))
    jsonschema.Draft202012Validator(_absolute(schema), registry=registry).validate(json.loads(body))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    feed = Feed()
    feed.step(180)
    share_stock(feed)
    with Server(feed) as server:
        yield server


@pytest.mark.slow
def test_the_document_is_valid():
    validate(json.loads(json.dumps(SPEC)))


@pytest.mark.slow
def test_the_copy_among_the_schemas_is_the_document():
    """Made by ``python -m pipeline.publish.http.openapi``."""
    copy = yaml.safe_load((SCHEMAS / "openapi.yaml").read_text(encoding="utf-8"))
    assert copy == json.loads(json.dumps(SPEC))


def test_the_server_serves_the_document(server):
    with urllib.request.urlopen(server.url + "/v1/openapi.json", timeout=scaled(10)) as response:
        assert json.load(response) == json.loads(json.dumps(SPEC))


@pytest.mark.parametrize("path", JSON_PATHS)
def test_every_answer_is_as_described(server, path):
    address = path.replace("{model}", "meta-llama%2FLlama-3.3-70B-Instruct").replace("{pool}", "chat")
    with urllib.request.urlopen(server.url + address, timeout=scaled(10)) as response:
        body = response.read()
    responses = SPEC["paths"][path]["get"]["responses"]
    _check(body, responses["200"]["content"]["application/json"]["schema"])


def test_a_mark_of_an_alert_is_as_described():
    operation = SPEC["paths"]["/v1/alerts/feedback"]["post"]
    body = json.dumps({"alert_id": "spike_observed|a/b|chat|60", "verdict": "false"}).encode()
    _check(body, operation["requestBody"]["content"]["application/json"]["schema"])
    with Server(Feed(), token="t") as server:
        headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.url}/v1/alerts/feedback", body, headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 202
            _check(response.read(), operation["responses"]["202"]["content"]["application/json"]["schema"])
    assert [mark.scope.pool for mark in server.marks] == ["chat"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/recommendations/no/such", 404),
        ("/v1/windows/llama-3.1-8b-instruct/chat?grain_seconds=7", 400),
    ],
)
def test_errors_are_problem_documents(server, path, status):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(server.url + path, timeout=scaled(10))
    assert error.value.code == status
    problem = SPEC["components"]["responses"]["Problem"]["content"]["application/problem+json"]["schema"]
    _check(error.value.read(), problem)
