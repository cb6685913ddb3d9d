"""Sockets and TLS: `listen` takes a place, `accept` the connections that come to it, `tls` makes contexts whose certificate can
be exchanged, of what `certificates` reads, and `served` does so with files that change; `clienthello` is what a client offers.

An I/O kit that knows nothing of gRPC, HTTP or requests: whoever serves something is above it.
"""
