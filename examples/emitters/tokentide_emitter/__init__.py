"""Request events for Tokentide, emitted from inside the servers. Nothing here imports Tokentide itself.

- ``vllm_stats``: vLLM stat logger plugin; tokens and times as the engine measured them.
- ``vllm_asgi``: optional vLLM middleware; what the engine does not see: refusals, disconnects, tenant, LoRA name.
- ``asgi``: middleware for any other OpenAI-compatible ASGI server.
- ``litellm_callback``: callback of the LiteLLM proxy.

Settings come from the environment when the first request arrives (``config.EmitterConfig``); importing reads nothing.
"""
