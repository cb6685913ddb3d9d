"""gRPC on the wire: message bytes to events, actions to message bytes, and the servers that carry them."""
