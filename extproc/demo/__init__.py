"""`extproc demo`: the whole product on one machine, told as a story that checks itself.

`stack` starts the parts, `script` says what happens, with `split` and `canary` its last acts, `traffic` sends and observes,
`view` shows it.
Everything that the demo runs is what a user runs: `envoy/serving-endpoints.yaml`, `extproc gateway` with a config file,
requests over HTTP. Only the model servers live in the demo's own process.
"""

from extproc.demo.run import demo

__all__ = ["demo"]
