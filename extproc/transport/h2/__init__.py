"""gRPC over HTTP/2 for our two services, written for one kind of client: a proxy that opens many streams of few messages.

frames       numbers and bytes of RFC 9113's frames
table        what a frame does to a stream, as rows
headers      HPACK: blocks to header fields, checked; fields to blocks
limits       what bounds a connection, and how its peer may not waste our time
outbox       what waits for the peer's flow control windows
connection   bytes in, events out; calls in, bytes out: one connection without I/O
grpc         the five bytes before a message, status, timeouts
calls        the services on a connection: ExtProc's Process, and health
server       sockets, timers, drain: the only module that knows asyncio
"""
