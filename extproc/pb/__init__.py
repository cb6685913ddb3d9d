"""Messages and service of Envoy's external processing API, generated from `protos/` by `scripts/protos`.

Everything under `extproc.pb.envoy` is generated and never edited. This package holds no logic and imports nothing of
ours.

The messages keep the full names they have upstream, since those names are on the wire. protobuf knows a full name
once per process, so a process that imports this package cannot also import another build of the same files, such as
xds-protos: the second import raises TypeError ("duplicate file name"). The `envoy` in our module path is not a
top-level package and collides with nothing.

The gRPC module is not imported here: transports that do not use grpcio should not pay for loading it.
"""

from extproc.pb.envoy.config.core.v3 import base_pb2
from extproc.pb.envoy.extensions.filters.http.ext_proc.v3 import processing_mode_pb2
from extproc.pb.envoy.service.ext_proc.v3 import external_processor_pb2
from extproc.pb.envoy.type.v3 import http_status_pb2

__all__ = ["base_pb2", "external_processor_pb2", "http_status_pb2", "processing_mode_pb2"]
