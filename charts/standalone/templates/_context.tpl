{{/* See _shared.tpl for what the keys mean. */}}
{{- define "standalone.context" -}}
{{- include "standalone.router" . -}}
{{- $v := .Values.inferenceExtension -}}
{{- $flags := include "standalone.flags" (dict "Values" .Values "path" "inferenceExtension") | fromJson -}}
{{- $name := printf "%s-epp" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- $auth := eq (toString (dig "metrics-endpoint-auth" $v.monitoring.prometheus.auth.enabled $flags)) "true" -}}
{{- $many := gt (len .Values.gateway.pools) 0 -}}
{{- $http := true -}}
{{- range $v.extraServicePorts }}{{ if eq .name "http" }}{{ $http = false }}{{ end }}{{ end -}}
{{- $serving := include "standalone.serving" . | fromYaml -}}
path: inferenceExtension
name: {{ $name }}
container: {{ ternary "gateway" "epp" $many }}
command: {{ ternary "gateway" "epp" $many }}
selector:
  # As upstream's, so that its release can be changed to this chart in place.
  {{ ternary "inferencepool" "epp" $v.endpointsServer.createInferencePool }}: {{ $name }}
grpcPort: {{ int $v.extProcPort }}
healthPort: {{ int $v.grpcHealthPort }}
appProtocol: http2
election: {{ eq (toString (dig "ha-enable-leader-election" false $flags)) "true" }}
namespaced: true
metricsAuth: {{ $auth }}
api: true
configMap: true
{{- $volumes := list }}
{{- range $v.sidecar.volumes }}{{ if ne .name "config" }}{{ $volumes = append $volumes . }}{{ end }}{{ end }}
volumes:
  {{- toYaml (concat $volumes $serving.volumes) | nindent 2 }}
mounts:
  {{- toYaml $serving.mounts | nindent 2 }}
env:
  {{- toYaml $serving.env | nindent 2 }}
recreate: {{ $serving.claim }}
{{- $clients := list }}
{{- $services := list }}
{{- if $v.sidecar.enabled }}
{{- $clients = append $clients (int $v.listenPort) }}
{{- if $http }}
{{- $services = append $services (dict "name" "http" "port" (int ($v.servicePort | default $v.listenPort)) "targetPort" (int $v.listenPort) "protocol" "TCP") }}
{{- end }}
{{- end }}
{{- with $serving.servicePort }}
{{- $clients = append $clients (int $.Values.servingEndpoints.api.port) }}
{{- $services = append $services (dict "name" "http-api" "port" (int .) "targetPort" (int $.Values.servingEndpoints.api.port) "protocol" "TCP") }}
{{- end }}
clientPorts: {{ toJson $clients }}
servicePorts: {{ toJson $services }}
owned:
  grpc-port: inferenceExtension.extProcPort
  grpc-health-port: inferenceExtension.grpcHealthPort
  metrics-port: inferenceExtension.metricsPort
  drain-timeout: inferenceExtension.drainTimeoutSeconds
  shutdown-delay: inferenceExtension.shutdownDelaySeconds
  cert-path: inferenceExtension.tls.secretName
  client-ca-file: inferenceExtension.tls.clientCaSecretName
  config-file: inferenceExtension.pluginsConfigFile
  pool-name: the release's name
  pool-namespace: the release's namespace
  pool-group: inferencePool.apiVersion
  endpoint-selector: inferenceExtension.endpointsServer.endpointSelector
  endpoint-target-ports: inferenceExtension.endpointsServer.targetPorts
  {{- range $flag, $value := $serving.flags }}
  {{ $flag }}: the values of servingEndpoints
  {{- end }}
flags:
  grpc-port: {{ int $v.extProcPort }}
  grpc-health-port: {{ int $v.grpcHealthPort }}
  metrics-port: {{ int $v.metricsPort }}
  metrics-endpoint-auth: {{ $auth }}
  drain-timeout: {{ int $v.drainTimeoutSeconds }}s
  shutdown-delay: {{ int $v.shutdownDelaySeconds }}s
  {{- range $flag, $value := $serving.flags }}
  {{ $flag }}: {{ $value | toJson }}
  {{- end }}
  {{- if $many }}
  config-file: /config/gateway.yaml
  {{- else }}
  config-file: /config/{{ $v.pluginsConfigFile }}
  {{- if $v.endpointsServer.createInferencePool }}
  pool-name: {{ .Release.Name }}
  pool-namespace: {{ .Release.Namespace }}
  pool-group: {{ (split "/" .Values.inferencePool.apiVersion)._0 }}
  {{- else }}
  endpoint-selector: {{ $v.endpointsServer.endpointSelector | quote }}
  endpoint-target-ports: {{ include "standalone.targetPorts" . | quote }}
  {{- end }}
  {{- end }}
  {{- if and (or $v.tracing.enabled $v.trace.enabled) (not $many) }}
  tracing: true
  {{- end }}
  {{- if $v.tls.secretName }}
  cert-path: /etc/extproc/tls
  enable-cert-reload: true
  {{- end }}
  {{- if $v.tls.clientCaSecretName }}
  client-ca-file: /etc/extproc/client-ca/ca.crt
  {{- end }}
{{- end }}

{{/* endpointsServer.targetPorts, which upstream takes as a number, a list or text, with commas. */}}
{{- define "standalone.targetPorts" -}}
{{- $given := .Values.inferenceExtension.endpointsServer.targetPorts -}}
{{- $list := ternary $given (splitList "," (toString $given)) (kindIs "slice" $given) -}}
{{- $ports := list -}}
{{- range $list }}
{{- $port := toString . | trim }}
{{- if or (not (regexMatch "^[0-9]{1,5}$" $port)) (lt (atoi $port) 1) (gt (atoi $port) 65535) }}
{{- fail (printf "inferenceExtension.endpointsServer.targetPorts: expected ports from 1 to 65535, got %q" $port) }}
{{- end }}
{{- $ports = append $ports $port }}
{{- end }}
{{- if gt (len $ports) 8 }}
{{- fail (printf "inferenceExtension.endpointsServer.targetPorts: at most 8 ports, got %d" (len $ports)) }}
{{- end }}
{{- join "," $ports }}
{{- end }}

{{/* Whether an InferencePool is made. */}}
{{- define "standalone.makesPool" -}}
{{ and (not .Values.gateway.pools) .Values.inferenceExtension.endpointsServer.createInferencePool }}
{{- end }}

{{- define "standalone.engine" -}}
{{- if eq (include "standalone.makesPool" .) "true" }}{{ .Values.inferencePool.modelServerType }}{{ else }}{{ .Values.inferenceExtension.endpointsServer.modelServerType }}{{ end -}}
{{- end }}

{{/* The config files, as the data of the ConfigMap. */}}
{{- define "standalone.configData" -}}
{{- $v := .Values.inferenceExtension -}}
{{- $default := include "standalone.defaultPlugins" (dict "source" $v.metricsDataSource "engine" (include "standalone.engine" .) "latency" $v.latencyPredictor.enabled) -}}
{{- if .Values.gateway.pools }}
gateway.yaml: |
  {{- include "standalone.gatewayConfig" (dict "root" . "default" $default) | nindent 2 }}
{{- with .Values.gateway.adapters }}
adapters.yaml: |
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- else }}
{{ include "standalone.pickerConfigs" (dict "v" $v "default" $default) }}
{{- end }}
{{- if $v.sidecar.enabled }}
envoy.yaml: |
  {{- include "standalone.ownEnvoy" . | default (include (ternary "standalone.envoyServing" "standalone.envoy" .Values.servingEndpoints.enabled) .) | nindent 2 }}
{{- end }}
{{- end }}

{{- define "standalone.gatewayConfig" -}}
{{- $pools := list -}}
{{- $routes := list -}}
{{- $root := .root -}}
{{- $regions := $root.Values.gateway.regions -}}
{{- range .root.Values.gateway.pools }}
{{- $endpoints := dict }}
{{- if .static }}
{{- $_ := set $endpoints "static" .static }}
{{- else }}
{{- $kubernetes := dict }}
{{- if .inferencePool }}
{{- $_ := set $kubernetes "inferencePool" .inferencePool }}
{{- else }}
{{- $_ := set $kubernetes "selector" .matchLabels }}
{{- $_ := set $kubernetes "targetPorts" (.targetPorts | default (list 8000)) }}
{{- end }}
{{- if .namespace }}{{ $_ := set $kubernetes "namespace" .namespace }}{{ end }}
{{- $_ := set $endpoints "kubernetes" $kubernetes }}
{{- end }}
{{- $pool := dict "name" .name "endpoints" $endpoints }}
{{- if .scheduling }}{{ $_ := set $pool "scheduling" .scheduling }}{{ end }}
{{- if .region }}{{ $_ := set $pool "region" .region }}{{ end }}
{{- if .zone }}{{ $_ := set $pool "zone" .zone }}{{ end }}
{{- $pools = append $pools $pool }}
{{- /* With regions, pools of the same models are one route. */}}
{{- $models := .models }}
{{- $names := list }}
{{- if $regions }}
{{- range $root.Values.gateway.pools }}{{ if deepEqual .models $models }}{{ $names = append $names .name }}{{ end }}{{ end }}
{{- end }}
{{- if le (len $names) 1 }}
{{- $routes = append $routes (dict "models" $models "pool" .name) }}
{{- else if eq (first $names) .name }}
{{- $routes = append $routes (dict "models" $models "pools" $names) }}
{{- end }}
{{- end }}
{{- $config := dict "apiVersion" "extproc.dev/v1alpha1" "kind" "Gateway" "pools" $pools "routes" $routes -}}
{{- if $regions }}{{ $_ := set $config "regions" $regions }}{{ end -}}
{{- if .root.Values.gateway.adapters }}{{ $_ := set $config "adaptersFile" "adapters.yaml" }}{{ end -}}
{{- $_ := set $config "scheduling" (.root.Values.gateway.scheduling | default (omit (fromYaml .default) "apiVersion" "kind")) -}}
{{ toYaml (mergeOverwrite $config (deepCopy .root.Values.gateway.config)) }}
{{- end }}

{{/* A bootstrap of somebody's own. */}}
{{- define "standalone.ownEnvoy" -}}
{{- $s := .Values.inferenceExtension.sidecar -}}
{{- $s.config | default (index $s.configMap.data "envoy.yaml") | default "" -}}
{{- end }}

{{/* The port of Envoy's own pages, which the pod's preStop asks: as the bootstrap says. */}}
{{- define "standalone.adminPort" -}}
{{- $port := int .Values.inferenceExtension.sidecar.adminPort -}}
{{- $own := include "standalone.ownEnvoy" . | fromYaml -}}
{{- dig "admin" "address" "socket_address" "port_value" $port $own | int -}}
{{- end }}

{{- define "standalone.moreContainers" -}}{{- end }}

{{/* Envoy starts before our container and is stopped after it, so answers under way have their drain. */}}
{{- define "standalone.initContainers" -}}
{{- $s := .Values.inferenceExtension.sidecar -}}
{{- if $s.enabled }}
- name: {{ $s.name }}
  image: {{ $s.image | quote }}
  imagePullPolicy: {{ $s.imagePullPolicy }}
  restartPolicy: Always
  command:
    {{- toYaml (ternary (list $s.command) $s.command (kindIs "string" $s.command) | default (list "envoy")) | nindent 4 }}
  args:
    {{- range $s.args }}
    - {{ . | quote }}
    {{- else }}
    - --config-path
    - /config/envoy.yaml
    - --log-level
    - {{ $s.logLevel | quote }}
    {{- if $s.concurrency }}
    - --concurrency
    - {{ $s.concurrency | quote }}
    {{- end }}
    - --service-cluster
    - {{ .Release.Name }}
    {{- end }}
    {{- range $s.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  {{- with $s.env }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    {{- if $s.ports }}
    {{- toYaml $s.ports | nindent 4 }}
    {{- else }}
    - {name: http, containerPort: {{ int .Values.inferenceExtension.listenPort }}, protocol: TCP}
    - {name: envoy-ready, containerPort: {{ int $s.readyPort }}, protocol: TCP}
    {{- end }}
  startupProbe:
    httpGet: {path: /ready, port: {{ int $s.readyPort }}}
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    {{- if $s.livenessProbe }}
    {{- toYaml $s.livenessProbe | nindent 4 }}
    {{- else }}
    # /ready fails on purpose when the pod is to go.
    tcpSocket: {port: {{ int $s.readyPort }}}
    timeoutSeconds: 3
    {{- end }}
  readinessProbe:
    {{- if $s.readinessProbe }}
    {{- toYaml $s.readinessProbe | nindent 4 }}
    {{- else }}
    httpGet: {path: /ready, port: {{ int $s.readyPort }}}
    periodSeconds: 2
    {{- end }}
  resources:
    {{- toYaml $s.resources | nindent 4 }}
  securityContext:
    {{- toYaml $s.securityContext | nindent 4 }}
  volumeMounts:
    - {name: config, mountPath: /config, readOnly: true}
    - {name: tmp, mountPath: /tmp}
    {{- with $s.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{/* Before we are told to stop, Envoy closes its connections one by one as answers end, so clients go to another pod. */}}
{{- define "standalone.lifecycle" -}}
{{- $s := .Values.inferenceExtension.sidecar -}}
{{- if $s.enabled }}
preStop:
  exec:
    command:
      - python
      - -c
      - >-
        import urllib.request as u;
        u.urlopen(u.Request("http://127.0.0.1:{{ include "standalone.adminPort" . }}/healthcheck/fail", method="POST"), timeout=2)
{{- end }}
{{- end }}
