"""Everything that talks to a real Kubernetes API server: `make test-k8s`."""
