"""A real vLLM behind a real Envoy and our stages. Slow, and 6 GB on disk: `make test-vllm`, not `make test`."""
