"""Grafana's dashboards: every query against a real gateway that a real Prometheus scrapes (`make test-dashboards`)."""
