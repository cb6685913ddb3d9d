{{/* See _shared.tpl for what the keys mean. */}}
{{- define "body-based-routing.context" -}}
{{- $v := .Values.bbr -}}
{{- $flags := include "body-based-routing.flags" (dict "Values" .Values "path" "bbr") | fromJson -}}
{{- $name := $v.name | default .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- $auth := eq (toString (dig "metrics-endpoint-auth" $v.monitoring.prometheus.auth.enabled $flags)) "true" -}}
{{- $secure := eq (include "body-based-routing.secure" .) "true" -}}
path: bbr
name: {{ $name }}
container: bbr
command: bbr
selector:
  app: {{ $name }}
grpcPort: {{ int $v.port }}
healthPort: {{ int $v.healthCheckPort }}
appProtocol: HTTP2
election: false
namespaced: {{ not $v.multiNamespace }}
metricsAuth: {{ $auth }}
api: {{ or $auth $v.adapterConfigMaps }}
moreArgs:
  {{- range $index, $plugin := $v.plugins }}
  - {{ printf "--plugin=%s" (include "body-based-routing.plugin" (dict "plugin" $plugin "index" $index)) | quote }}
  {{- end }}
owned:
  grpc-port: bbr.port
  grpc-health-port: bbr.healthCheckPort
  metrics-port: bbr.metricsPort
  drain-timeout: bbr.drainTimeoutSeconds
  shutdown-delay: bbr.shutdownDelaySeconds
  cert-path: bbr.tls.secretName
  client-ca-file: bbr.tls.clientCaSecretName
  adapter-configmaps: bbr.adapterConfigMaps
  plugin: bbr.plugins
flags:
  grpc-port: {{ int $v.port }}
  grpc-health-port: {{ int $v.healthCheckPort }}
  metrics-port: {{ int $v.metricsPort }}
  streaming: true
  secure-serving: {{ $secure }}
  metrics-endpoint-auth: {{ $auth }}
  adapter-configmaps: {{ $v.adapterConfigMaps }}
  drain-timeout: {{ int $v.drainTimeoutSeconds }}s
  shutdown-delay: {{ int $v.shutdownDelaySeconds }}s
  {{- if or $v.tracing.enabled $v.trace.enabled }}
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

{{/* Whether the ExtProc port has TLS. Envoy Gateway would want to know who signed it. */}}
{{- define "body-based-routing.secure" -}}
{{- $v := .Values.bbr -}}
{{- $flags := include "body-based-routing.flags" (dict "Values" .Values "path" "bbr") | fromJson -}}
{{- if hasKey $flags "secure-serving" -}}
{{ index $flags "secure-serving" }}
{{- else -}}
{{ or (ne .Values.provider.name "envoy-gateway") (ne .Values.provider.envoyGateway.tls.caConfigMapName "") }}
{{- end -}}
{{- end }}

{{/* A plugin as `--plugin` has it: type:name:json. */}}
{{- define "body-based-routing.plugin" -}}
{{- if kindIs "string" .plugin -}}
{{ .plugin }}
{{- else -}}
{{- $json := .plugin.json | default .plugin.parameters | default "" -}}
{{- if not (kindIs "string" $json) }}{{ $json = toJson $json }}{{ end -}}
{{ printf "%s:%s%s" .plugin.type (.plugin.name | default (printf "plugin-%d" .index)) (ternary (printf ":%s" $json) "" (ne $json "")) }}
{{- end -}}
{{- end }}

{{/* What `GET /v1/models` names on Envoy Gateway, as JSON: provider.envoyGateway.models, else what bbr.adapters has. */}}
{{- define "body-based-routing.models" -}}
{{- $names := list -}}
{{- range .Values.bbr.adapters }}{{ $names = concat $names (list .baseModel) (.adapters | default list) }}{{ end -}}
{{ toJson (.Values.provider.envoyGateway.models | default $names | uniq) }}
{{- end }}

{{/* The list of models as OpenAI has it. A percent sign would be a command of Envoy's. */}}
{{- define "body-based-routing.modelsBody" -}}
{{- $data := list -}}
{{- range include "body-based-routing.models" . | fromJsonArray -}}
{{- $data = append $data (dict "id" . "object" "model" "created" 0 "owned_by" "extproc") -}}
{{- end -}}
{{ toRawJson (dict "object" "list" "data" $data) | replace "%" "\\u0025" }}
{{- end }}

{{- define "body-based-routing.moreContainers" -}}{{- end }}

{{- define "body-based-routing.gatewayNamespace" -}}
{{ .Values.inferenceGateway.namespace | default .Release.Namespace }}
{{- end }}

{{- define "body-based-routing.host" -}}
{{- $c := include "body-based-routing.context" . | fromYaml -}}
{{ printf "%s.%s.svc.%s" $c.name .Release.Namespace .Values.clusterDomain }}
{{- end }}

{{- define "body-based-routing.initContainers" -}}{{- end }}

{{- define "body-based-routing.lifecycle" -}}{{- end }}
