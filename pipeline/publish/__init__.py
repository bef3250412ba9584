"""Makes results visible: Prometheus metrics, the HTTP API, the live board, Grafana dashboards."""
