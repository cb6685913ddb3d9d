"""The inference gateway brain for Envoy: an ExtProc server that decides while Envoy carries the bytes.

    Envoy ═ HTTP/2 ═▶ transport ─ message bytes ─▶ codec ─ event ─▶ protocol      events in, actions out
      ▲                                                               │ Decide
      │                       director: request ─▶ stages: traffic ─▶ scheduling     which model, which endpoint
      ╘═ answer bytes ◀─ codec ◀─ action ◀─ protocol ◀─ DecisionMade ─┘        ▲
                                                                             pool  ◀─ discovery, scraping

Everything between a message's bytes and the answer's bytes is one synchronous call. Imports only go down:

    __main__
    cli
    demo
    app
    transport | admin | api | discovery | scraping | simulator | storage
    secrets
    kubernetes | sockets
    control | director
    stages
    observability
    external
    testing
    flow | interop | plugin | shadow
    protocol | request | response | traffic | scheduling | pool | measures | rollouts
    prefix
    settings
    audit | files | registry
    candidates
    domain | credentials
    backoff | document | errors | expressions | names | live | media | slices
    pb
"""

import importlib.util

__version__ = "0.2.0"


def compiled() -> bool:
    """Whether what runs for each message is machine code, made of these sources by `scripts/compile`, or Python's bytecode."""
    spec = importlib.util.find_spec("extproc.transport.session")
    return spec is not None and spec.origin is not None and not spec.origin.endswith(".py")
