"""gRPC over HTTP/2 for our two services, written for one kind of client: a proxy that opens many streams of few messages.

frames       numbers and bytes of RFC 9113's frames
table        what a frame does to a stream, as rows
headers      HPACK: blocks to header fields, checked; fields to blocks
limits       what bounds a connection, and how its peer may not waste our time
outbox       what we send, and what waits for the peer's flow control windows
intake       which streams there are, and the windows that we grant
events       what a connection tells the layer above
control      SETTINGS, PING and GOAWAY, which concern the connection as a whole
connection   bytes in, events out; calls in, bytes out: one connection without I/O
grpc, plan   the five bytes before a message, status, timeouts; what a request asks for
call         what a message does, and how a call ends: an ext_proc stream
probes       health, and requests that are not gRPC
calls        all calls of a connection
server       sockets, timers, drain: the only module that knows asyncio
"""
