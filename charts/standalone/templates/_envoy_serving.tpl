{{/* Envoy's bootstrap: envoy/serving-endpoints.yaml with the changes of charts/src/envoy.yaml, made by scripts/charts.py of charts/src. */}}
{{- define "standalone.envoyServing" -}}
{{- $v := .Values.inferenceExtension -}}
{{- $s := $v.sidecar -}}
{{- $flags := include "standalone.flags" (dict "Values" .Values "path" "inferenceExtension") | fromJson -}}
{{- $secure := ne (toString (index $flags "secure-serving")) "false" -}}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: {{ int $s.adminPort }}}}

# For `attempts`, which has no socket: nobody but this Envoy can reach it.
bootstrap_extensions:
- name: envoy.bootstrap.internal_listener
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener

static_resources:
  listeners:
  - name: ready
    address: {socket_address: {address: 0.0.0.0, port_value: {{ int $s.readyPort }}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ready
          http_filters:
          - name: envoy.filters.http.health_check
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
              pass_through_mode: false
              headers: [{name: ":path", string_match: {exact: /ready}}]
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
          route_config:
            name: stats
            virtual_hosts:
            - name: stats
              domains: ["*"]
              routes:
              - match: {path: /stats/prometheus}
                route: {cluster: admin}
  - name: clients
    address: {socket_address: {address: 0.0.0.0, port_value: {{ int $v.listenPort }}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: clients
          # A client's x-request-id is kept, else one is made; it finds the decision in /debug/decisions?request_id=.
          generate_request_id: true
          preserve_external_request_id: true
          always_set_request_id_in_response: true
          # What only the gateway says.
          early_header_mutation_extensions:
          - name: envoy.http.early_header_mutation.header_mutation
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
              mutations: [{remove: x-extproc-route}]
          # WebSocket (`/v1/realtime`), over HTTP/2 as extended CONNECT; without these it is 403. An open one lasts as long as
          # its route's idle_timeout finds something to hear, and as its ext_proc stream.
          upgrade_configs: [{upgrade_type: websocket}]
          http2_protocol_options: {allow_connect: true}
          # A model may think for long before its first token. What bounds a request is the route's idle_timeout.
          stream_idle_timeout: 0s
          # A line for each request, however many attempts it took; `attempts` writes one for each of those.
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                json_format:
                  log: request
                  request_id: "%REQ(X-REQUEST-ID)%"
                  method: "%REQ(:METHOD)%"
                  path: "%REQ(:PATH)%"
                  model: "%REQ(X-GATEWAY-MODEL-NAME)%"
                  served_model_name: "%RESP(SERVED-MODEL-NAME)%"
                  route: "%ROUTE_NAME%"
                  destination: "%REQ(X-GATEWAY-DESTINATION-ENDPOINT)%"
                  upstream: "%UPSTREAM_HOST%"
                  attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%"
                  status: "%RESPONSE_CODE%"
                  details: "%RESPONSE_CODE_DETAILS%"
                  flags: "%RESPONSE_FLAGS%"
                  bytes_in: "%BYTES_RECEIVED%"
                  bytes_out: "%BYTES_SENT%"
                  first_byte_ms: "%RESPONSE_DURATION%"
                  duration_ms: "%DURATION%"
                  # How long the request waited for us, and the response's headers after it, as Envoy measured it.
                  ext_proc_request_us: "%FILTER_STATE(envoy.filters.http.ext_proc:FIELD:request_header_latency_us)%"
                  ext_proc_response_us: "%FILTER_STATE(envoy.filters.http.ext_proc:FIELD:response_header_latency_us)%"
          http_filters:
          # Tells the gateway that there is a listener for attempts, in what no client can write: a request for an endpoint is
          # handed over to it by the header x-extproc-route.
          - name: envoy.filters.http.set_metadata
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config
              metadata: [{metadata_namespace: extproc.attempt, value: {number: 0}}]
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              # No `timeout` here: a stream lasts as long as its answer. (Envoy 1.40 would end none by it.)
              grpc_service: &gateway {envoy_grpc: {cluster_name: gateway}}
              # Full duplex keeps no copy of the body in Envoy, so Envoy does not allow to go on without us.
              failure_mode_allow: false
              status_on_error: {code: ServiceUnavailable}
              # For the response's headers. In full duplex Envoy sets no timer for the request: --request-timeout does.
              message_timeout: 5s
              processing_mode:
                request_header_mode: SEND
                request_body_mode: FULL_DUPLEX_STREAMED
                request_trailer_mode: SEND
                # One message for the response, none for its tokens; trailers SEND keeps the stream open until the response
                # ends, and that is how the gateway knows that the request is over. The price: answers under way are cut
                # when the gateway dies. Stop it with SIGTERM, and it waits for them (--drain-timeout).
                response_header_mode: SEND
                response_body_mode: NONE
                response_trailer_mode: SEND
              metadata_options: &metadata
                forwarding_namespaces: {untyped: [envoy.lb, envoy.lb.subset_hint, extproc.attempt]}
                receiving_namespaces: {untyped: [envoy.lb]}
          - &router
            name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
          route_config:
            name: clients
            virtual_hosts:
            - name: clients
              domains: ["*"]
              # A body is kept for another attempt up to this size; larger ones are sent, and not repeated.
              request_body_buffer_limit: 67108864
              # x-envoy-attempt-count, written anew for each attempt; `attempts` makes metadata of it.
              include_request_attempt_count: true
              # Only before an answer has begun: the endpoint that is gone costs an attempt, not the request. Each attempt
              # takes the next endpoint of the gateway's list. `reset` also repeats what an endpoint took and died of.
              retry_policy: &next-endpoint
                retry_on: connect-failure,refused-stream,reset-before-request,reset
                num_retries: 3
                retry_back_off: {base_interval: 0.005s, max_interval: 0.05s}
              routes:
              - name: api
                match: {prefix: /api/2.0/}
                route: &to-api {cluster: api, timeout: 60s, retry_policy: {}}
                typed_per_filter_config: &not-asked
                  envoy.filters.http.ext_proc:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute
                    disabled: true
              # The page; its events end by themselves.
              - name: ui
                match: {path_separated_prefix: /ui}
                route: {cluster: api, timeout: 0s, idle_timeout: 60s, retry_policy: {}}
                typed_per_filter_config: *not-asked
              - name: databricks-config
                match: {path: /.well-known/databricks-config}
                route: *to-api
                typed_per_filter_config: *not-asked
              # The path says that it is an endpoint, so the gateway is asked only there.
              - name: serving-endpoints
                match: {prefix: /serving-endpoints/}
                route: &to-attempts
                  cluster: attempts
                  timeout: 0s
                  # The longest silence: of a slow client, of the gateway, or of a model before its first token.
                  idle_timeout: 600s
                  retry_policy:
                    # The gateway knows who is left and whose answer is a failure (429, 5xx), and says it in the answer's
                    # headers: that bounds the attempts, and num_retries is --max-served-entities less 1. `reset`: the answer
                    # was cut before it had begun, which is before the first event of a stream.
                    retry_on: retriable-headers,reset
                    retriable_headers: [{name: x-extproc-next-entity, present_match: true}]
                    num_retries: 14
                    retry_back_off: {base_interval: 0.001s, max_interval: 0.01s}
                # What a split without a key goes by, the same in each attempt. (x-request-id, and so STREAM_ID, may be a client's.)
                request_headers_to_add: &draw
                - {header: {key: x-extproc-draw, value: "%UNIQUE_ID%"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
                response_headers_to_remove: &ours [x-extproc-next-entity]
                typed_per_filter_config: *not-asked
              # A request with trailers (HTTP/2 only; HTTP/1 trailers are dropped here) is not retried behind ext_proc: with
              # retries allowed, Envoy sends its body twice (envoyproxy/envoy issue 45470).
              - name: handed-over-with-trailers
                match:
                  prefix: /
                  headers:
                  - &handed-over {name: x-extproc-route, string_match: {exact: attempts}}
                  - &with-trailers {name: trailer, present_match: true}
                route: {cluster: attempts, timeout: 0s, idle_timeout: 600s, retry_policy: {}}
                request_headers_to_add: *draw
                request_headers_to_remove: &route [x-extproc-route]
                response_headers_to_remove: *ours
              - name: handed-over
                match: {prefix: /, headers: [*handed-over]}
                route: *to-attempts
                request_headers_to_add: *draw
                request_headers_to_remove: *route
                response_headers_to_remove: *ours
              - name: endpoints-with-trailers
                match: {prefix: /, headers: [*with-trailers]}
                route: &to-endpoints-once {cluster: endpoints, timeout: 0s, idle_timeout: 600s, retry_policy: {}}
                request_headers_to_remove: &count [x-envoy-attempt-count]
              - name: endpoints
                match: {prefix: /}
                route: &to-endpoints {cluster: endpoints, timeout: 0s, idle_timeout: 600s}
                request_headers_to_remove: *count

  - name: attempts
    internal_listener: {}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: attempts
          # An answer that is cut is cut at once. For a second Envoy waits for who reads to close first, and `clients` does too.
          delayed_close_timeout: 0s
          preserve_external_request_id: true
          upgrade_configs: [{upgrade_type: websocket}]
          http_protocol_options: {enable_trailers: true}
          stream_idle_timeout: 0s
          # What Envoy itself answers here, the gateway does not always see: an answer that was cut while it had only headers.
          # Metadata says whether somebody else is left.
          local_reply_config:
            mappers:
            - filter:
                and_filter:
                  filters:
                  - metadata_filter:
                      matcher: {filter: envoy.lb, path: [{key: x-extproc-falls-back}], value: {string_match: {exact: "1"}}}
                      match_if_key_not_found: false
                  - status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: extproc.failure}}}
              headers_to_add:
              - {header: {key: x-extproc-next-entity, value: "1"}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                json_format:
                  log: attempt
                  request_id: "%REQ(X-REQUEST-ID)%"
                  attempt: "%DYNAMIC_METADATA(extproc.attempt:number)%"
                  path: "%REQ(:PATH)%"
                  model: "%REQ(X-GATEWAY-MODEL-NAME)%"
                  served_model_name: "%RESP(SERVED-MODEL-NAME)%"
                  route: "%ROUTE_NAME%"
                  destination: "%REQ(X-GATEWAY-DESTINATION-ENDPOINT)%"
                  upstream: "%UPSTREAM_HOST%"
                  status: "%RESPONSE_CODE%"
                  details: "%RESPONSE_CODE_DETAILS%"
                  flags: "%RESPONSE_FLAGS%"
                  tls_failure: "%UPSTREAM_TRANSPORT_FAILURE_REASON%"
                  first_byte_ms: "%RESPONSE_DURATION%"
                  duration_ms: "%DURATION%"
          http_filters:
          - name: envoy.filters.http.header_to_metadata
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config
              request_rules:
              - header: x-envoy-attempt-count
                on_header_present: {metadata_namespace: extproc.attempt, key: number, type: NUMBER}
                remove: true
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              grpc_service: *gateway
              failure_mode_allow: false
              status_on_error: {code: ServiceUnavailable}
              message_timeout: 5s
              processing_mode:
                request_header_mode: SEND
                request_body_mode: FULL_DUPLEX_STREAMED
                request_trailer_mode: SEND
                # Answers come by the gateway: the model's name is put back, usage is read, a provider's answer translated, and
                # what may still fail waits for its first piece. Only here, so that other models' tokens cost nothing.
                response_header_mode: SEND
                response_body_mode: FULL_DUPLEX_STREAMED
                response_trailer_mode: SEND
              metadata_options: *metadata
              # A provider's :authority; and what a client wrote under x-envoy- is not for providers.
              mutation_rules: {allow_all_routing: true, allow_envoy: true}
          - *router
          route_config:
            name: attempts
            virtual_hosts:
            - name: attempts
              domains: ["*"]
              request_body_buffer_limit: 67108864
              request_headers_to_remove: [x-extproc-draw]
              # Within one entity, as in `clients`.
              retry_policy: *next-endpoint
              routes:
              # The address is metadata and not a header: it is the gateway's, or there is none.
              - name: external
                match: {prefix: /, headers: [{name: x-extproc-route, string_match: {exact: external}}]}
                route:
                  cluster: external
                  timeout: 0s
                  idle_timeout: 600s
                  retry_policy: &once-more
                    retry_on: connect-failure,refused-stream,reset-before-request
                    num_retries: 1
                request_headers_to_remove: &not-for-providers
                - x-extproc-route
                - x-forwarded-for
                - x-forwarded-proto
                - x-request-id
                - x-envoy-internal
                - x-envoy-external-address
              - name: external-plain
                match: {prefix: /, headers: [{name: x-extproc-route, string_match: {exact: external-plain}}]}
                route: {cluster: external-plain, timeout: 0s, idle_timeout: 600s, retry_policy: *once-more}
                request_headers_to_remove: *not-for-providers
              - name: endpoints-with-trailers
                match: {prefix: /, headers: [*with-trailers]}
                route: *to-endpoints-once
              - name: endpoints
                match: {prefix: /}
                route: *to-endpoints

  clusters:
  - name: attempts
    type: STATIC
    circuit_breakers: &unlimited
      thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 10000}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        # HTTP/1: a connection here costs nothing, and no answer waits for another's window.
        explicit_http_config: {http_protocol_options: {enable_trailers: true}}
    load_assignment:
      cluster_name: attempts
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {envoy_internal_address: {server_listener_name: attempts}}}

  # The gateway's --api-port.
  - name: api
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        # Before the API closes it, after 75 s: else a call could meet that.
        common_http_protocol_options: {idle_timeout: 60s}
        explicit_http_config: {http_protocol_options: {}}
    load_assignment:
      cluster_name: api
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{ int $.Values.servingEndpoints.api.port }}}}}

  # A provider, at the address that the gateway resolved and allowed (`--external-allow`): Envoy resolves no name, so none leads
  # elsewhere a moment later. Who answers there must be who :authority names.
  - name: external
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    connect_timeout: 5s
    circuit_breakers: *unlimited
    original_dst_lb_config: &checked-address {metadata_key: {key: envoy.lb, path: [{key: x-extproc-external-address}]}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        upstream_http_protocol_options: {auto_sni: true, auto_san_validation: true}
        explicit_http_config: {http_protocol_options: {}}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          # Debian's place for it, and that of Envoy's image.
          validation_context: {trusted_ca: {filename: /etc/ssl/certs/ca-certificates.crt}}
          tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}

  - name: external-plain
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    connect_timeout: 5s
    circuit_breakers: *unlimited
    original_dst_lb_config: *checked-address

  - name: gateway
    type: STATIC
    connect_timeout: 1s
    circuit_breakers: *unlimited
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    # TLS without a look at who answers: the gateway makes its certificate at start, and nobody has signed it. It keeps others
    # from reading along, and that is all. To know who answers: --cert-path on our side and, here, in common_tls_context,
    # validation_context: {trusted_ca: {filename: ca.crt}, match_typed_subject_alt_names: [...]}; for the other direction
    # tls_certificates here and --client-ca-file there. Without TLS: --secure-serving=false, and no transport_socket here.
    {{- if $secure }}
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          alpn_protocols: [h2]
          # Where Envoy is the client, 1.2 is the most that it offers unless told.
          tls_params: {tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3}
    {{- end }}
    load_assignment:
      cluster_name: gateway
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{ int $v.extProcPort }}}}}

  # Whom the gateway picked, and nobody else: the address is metadata, which no client can write.
  - name: endpoints
    type: ORIGINAL_DST
    lb_policy: CLUSTER_PROVIDED
    original_dst_lb_config:
      metadata_key: {key: envoy.lb, path: [{key: x-gateway-destination-endpoint}]}
    connect_timeout: 1s
    circuit_breakers: *unlimited
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        # vLLM closes a connection after 5 s without a request.
        common_http_protocol_options: {idle_timeout: 4s}
        explicit_http_config: {http_protocol_options: {enable_trailers: true}}
  - name: admin
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: admin
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: {{ int $s.adminPort }}}}}
{{- end }}
