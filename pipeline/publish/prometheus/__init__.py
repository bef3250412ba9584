"""A read-only part of Prometheus' HTTP API over the store, so that forecasts can be drawn at their target times."""
