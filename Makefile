# What a user or CI runs; each target is a script, so that a laptop's run is CI's run.
.DEFAULT_GOAL := help
.PHONY: help install demo up test test-long test-compiled compile check docs evaluation bench bench-compare experiments-truth fuzz soak rollouts-truth test-vllm test-k8s test-browser test-dashboards test-registry protos lock screenshots clean

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

install:  ## Make .venv with the locked dependencies and `extproc` in it
	@scripts/install

demo: install  ## A real Envoy, the gateway and six simulated model servers; 45 seconds, with a canary
	@.venv/bin/extproc demo

up: install  ## The same without the canary, left running, with curl lines to try
	@.venv/bin/extproc demo --keep

test: install  ## The default tests, real Envoy included
	@scripts/test

test-long: install  ## The others: whole journeys, restarts under load, a thousand streams; five minutes more
	@scripts/test --long

screenshots: install  ## Those of the docs, docs/images, by the browser tests; needs scripts/install-browser
	@EXTPROC_REQUIRE_BROWSER=1 EXTPROC_SCREENSHOTS=docs/images .venv/bin/python -m pytest -q tests/browser --ignore=tests/browser/test_many.py

docs: install  ## The docs as a site, .cache/site/html, its links checked; installs mkdocs-material once
	@scripts/install-docs
	@.venv/bin/python scripts/docs_site.py

compile: install  ## A wheel of the package with its hot path compiled, in .cache/compiled; needs a C compiler
	@scripts/compile

test-compiled: install  ## Both again, on what `make compile` made
	@scripts/test-compiled

check: install  ## Lint, types, import contracts, links of the pages, generated files
	@scripts/check

evaluation: install  ## Our default picker config and upstream's against round robin: Envoy, picker, six simulated servers; a quarter of an hour
	@scripts/evaluation

experiments-truth: install  ## A million keys: shares of arms, and that experiments are independent of each other
	@EXTPROC_KEYS=1000000 .venv/bin/python -m pytest -q tests/traffic/test_experiments.py

bench: install  ## CPU per request of the compiled package, against a bare grpc.aio server in the same run
	@scripts/bench

fuzz: install  ## 10 million executions of what reads bytes from outside; about 45 minutes of one core
	@scripts/fuzz

bench-compare: install  ## CPU per stream against an older revision: make bench-compare BASE=v1.0
	@scripts/bench-compare $(or $(BASE),HEAD)

soak: install  ## Ten minutes of everything mixed at half load through a real Envoy: memory flat, nothing failed
	@scripts/soak

rollouts-truth: install  ## The table of docs/rollouts.md: 1,000 simulated rollouts a row; half an hour of one core
	@scripts/rollouts-truth

test-vllm: install  ## Two real vLLM servers and a twin on CPU, behind Envoy and both stages; downloads 6 GB once
	@scripts/test-vllm

test-browser: install  ## The page in a real chromium, before a real Envoy; installs chromium and axe-core once
	@scripts/install-browser
	@EXTPROC_REQUIRE_BROWSER=1 scripts/lib/pytest tests/browser

test-dashboards: install  ## Every query of Grafana's dashboards, by a real Prometheus that scrapes a gateway in use; gets Prometheus once
	@scripts/install-prometheus
	@EXTPROC_REQUIRE_PROMETHEUS=1 scripts/lib/pytest tests/dashboards

test-registry: install  ## Serving endpoints that follow a real MLflow server; installs MLflow once, 800 MB
	@scripts/install-mlflow
	@EXTPROC_REQUIRE_MLFLOW=1 scripts/lib/pytest tests/e2e/test_registry.py

test-k8s: install  ## Charts and watchers on a real kube-apiserver; builds it, etcd and helm once with Go, 10 minutes
	@scripts/test-k8s

protos: install  ## Generate extproc/pb from protos/
	@scripts/protos

lock:  ## Resolve pyproject.toml into requirements.lock
	@scripts/lock

clean:  ## Remove what the targets above made
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	git worktree prune 2>/dev/null || true
