"""A simulated vLLM server, good enough that a router cannot tell.

`tokens`, `answers`, `kvcache`, `engine`, `api` and `replies` are pure: no clock, no event loop, no I/O, so that a
discrete-event simulation can use the same engine. `driver` runs the engine in real time, `server.Simulator` puts HTTP
around it. Nothing here knows the router that it is tested with.
"""
