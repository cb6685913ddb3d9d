{{/* Envoy's bootstrap: envoy/one-hop.yaml with the changes of charts/src/envoy.yaml, made by scripts/charts.py of charts/src. */}}
{{- define "standalone.envoy" -}}
{{- $v := .Values.inferenceExtension -}}
{{- $s := $v.sidecar -}}
{{- $flags := include "standalone.flags" (dict "Values" .Values "path" "inferenceExtension") | fromJson -}}
{{- $secure := ne (toString (index $flags "secure-serving")) "false" -}}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: {{ int $s.adminPort }}}}

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
          # WebSocket (`/v1/realtime`), over HTTP/2 as extended CONNECT; without these it is 403. An open one lasts as long as
          # its route's idle_timeout finds something to hear, and as its ext_proc stream.
          upgrade_configs: [{upgrade_type: websocket}]
          http2_protocol_options: {allow_connect: true}
          # A model may think for long before its first token. What bounds a request is the route's idle_timeout.
          stream_idle_timeout: 0s
          access_log:
          - name: envoy.access_loggers.stdout
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
              log_format:
                json_format:
                  request_id: "%REQ(X-REQUEST-ID)%"
                  method: "%REQ(:METHOD)%"
                  path: "%REQ(:PATH)%"
                  model: "%REQ(X-GATEWAY-MODEL-NAME)%"
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
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              # No `timeout` here: a stream lasts as long as its answer. (Envoy 1.40 would end none by it.)
              grpc_service: {envoy_grpc: {cluster_name: gateway}}
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
              metadata_options:
                forwarding_namespaces: {untyped: [envoy.lb, envoy.lb.subset_hint]}
                receiving_namespaces: {untyped: [envoy.lb]}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
              suppress_envoy_headers: true
          route_config:
            name: models
            virtual_hosts:
            - name: models
              domains: ["*"]
              # A body is kept for a retry up to this size; larger ones are sent, and not retried.
              request_body_buffer_limit: 67108864
              # Only before an answer has begun: the endpoint that is gone costs an attempt, not the request. Each attempt
              # takes the next endpoint of the gateway's list. `reset` also repeats what an endpoint took and died of.
              retry_policy:
                retry_on: connect-failure,refused-stream,reset-before-request,reset
                num_retries: 3
                retry_back_off: {base_interval: 0.005s, max_interval: 0.05s}
              routes:
              # A request with trailers (HTTP/2 only; HTTP/1 trailers are dropped here) is not retried: with retries allowed,
              # Envoy sends its body twice (envoyproxy/envoy issue 45470).
              - match: {prefix: /, headers: [{name: trailer, present_match: true}]}
                route:
                  cluster: endpoints
                  timeout: 0s
                  # The longest silence: of a slow client, of the gateway, or of a model before its first token.
                  idle_timeout: 600s
                  retry_policy: {}
              - match: {prefix: /}
                route: {cluster: endpoints, timeout: 0s, idle_timeout: 600s}

  clusters:
  - name: gateway
    type: STATIC
    connect_timeout: 1s
    circuit_breakers: &unlimited
      thresholds: [{max_connections: 100000, max_pending_requests: 100000, max_requests: 100000, max_retries: 10000}]
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
