"""The parts of the HTTP API: route table, parameters, answers, access, the OpenAPI document, the server."""
