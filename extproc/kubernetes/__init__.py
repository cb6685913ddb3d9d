"""The API server of Kubernetes: credentials, requests, lists that are kept current by watches.

Knows resources and versions, nothing of pools or models. Objects are plain JSON values; kubernetes-asyncio is imported only
where a kubeconfig is read, because its import costs 0.2 s and 34 MiB: not in a pod.
"""
