{{/* See _shared.tpl for what the keys mean. */}}
{{- define "inferencepool.context" -}}
{{- include "inferencepool.router" . -}}
{{- $v := .Values.inferenceExtension -}}
{{- $flags := include "inferencepool.flags" (dict "Values" .Values "path" "inferenceExtension") | fromJson -}}
{{- $name := printf "%s-epp" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- $auth := eq (toString (dig "metrics-endpoint-auth" $v.monitoring.prometheus.auth.enabled $flags)) "true" -}}
{{- $election := eq (include "inferencepool.election" .) "true" -}}
path: inferenceExtension
name: {{ $name }}
container: epp
command: epp
selector:
  inferencepool: {{ $name }}
grpcPort: {{ int $v.extProcPort }}
healthPort: {{ int $v.grpcHealthPort }}
appProtocol: http2
election: {{ $election }}
namespaced: true
metricsAuth: {{ $auth }}
api: true
configMap: true
volumes:
  {{- toYaml $v.sidecar.volumes | nindent 2 }}
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
  endpoint-selector: inferencePool.modelServers.matchLabels
  endpoint-target-ports: inferencePool.targetPorts
flags:
  grpc-port: {{ int $v.extProcPort }}
  grpc-health-port: {{ int $v.grpcHealthPort }}
  metrics-port: {{ int $v.metricsPort }}
  pool-name: {{ .Release.Name }}
  pool-namespace: {{ .Release.Namespace }}
  pool-group: {{ (split "/" .Values.inferencePool.apiVersion)._0 }}
  config-file: /config/{{ $v.pluginsConfigFile }}
  metrics-endpoint-auth: {{ $auth }}
  drain-timeout: {{ int $v.drainTimeoutSeconds }}s
  shutdown-delay: {{ int $v.shutdownDelaySeconds }}s
  {{- if $election }}
  ha-enable-leader-election: true
  {{- end }}
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

{{/* Leader election: as the flag says (upstream's way to turn it off), else highAvailability, else more than one replica. */}}
{{- define "inferencepool.election" -}}
{{- $v := .Values.inferenceExtension -}}
{{- $flags := include "inferencepool.flags" (dict "Values" .Values "path" "inferenceExtension") | fromJson -}}
{{- if hasKey $flags "ha-enable-leader-election" -}}
{{ ne (toString (index $flags "ha-enable-leader-election")) "false" }}
{{- else if eq $v.highAvailability "auto" -}}
{{ and (gt (int $v.replicas) 1) (not $v.autoscaling.enabled) }}
{{- else -}}
{{ eq $v.highAvailability "leader-election" }}
{{- end -}}
{{- end }}

{{- define "inferencepool.host" -}}
{{- $c := include "inferencepool.context" . | fromYaml -}}
{{ printf "%s.%s.svc.%s" $c.name .Release.Namespace .Values.clusterDomain }}
{{- end }}

{{/* The picker's config files, as the data of its ConfigMap. */}}
{{- define "inferencepool.configData" -}}
{{- $v := .Values.inferenceExtension -}}
{{- $source := deepCopy $v.metricsDataSource -}}
{{- with $v.modelServerMetricsScheme }}{{ $_ := set $source "scheme" . }}{{ end -}}
{{- with $v.modelServerMetricsPath }}{{ $_ := set $source "path" . }}{{ end -}}
{{- if kindIs "bool" $v.modelServerMetricsHttpsInsecureSkipVerify -}}
{{- $_ := set $source "insecureSkipVerify" $v.modelServerMetricsHttpsInsecureSkipVerify -}}
{{- end -}}
{{- $default := include "inferencepool.defaultPlugins" (dict "source" $source "engine" .Values.inferencePool.modelServerType "latency" $v.latencyPredictor.enabled) -}}
{{ include "inferencepool.pickerConfigs" (dict "v" $v "default" $default) }}
{{- end }}

{{/* More containers of the pod: upstream's sidecar. */}}
{{- define "inferencepool.moreContainers" -}}
{{- $s := .Values.inferenceExtension.sidecar -}}
{{- if $s.enabled }}
{{- if $s.image }}
- name: {{ $s.name }}
  image: {{ $s.image | quote }}
  imagePullPolicy: {{ $s.imagePullPolicy }}
  {{- with $s.command }}
  command:
    {{- toYaml (ternary (list .) . (kindIs "string" .)) | nindent 4 }}
  {{- end }}
  {{- range $key := list "args" "env" "ports" "livenessProbe" "readinessProbe" "resources" "volumeMounts" }}
  {{- with index $s $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end }}
{{- with $s.containers }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{/* provider.istio.destinationRule on top of upstream's earlier place of it. */}}
{{- define "inferencepool.destinationRule" -}}
{{- $old := dig "destinationRule" dict .Values.istio | deepCopy -}}
{{- $new := deepCopy .Values.provider.istio.destinationRule -}}
{{- if not $new.host }}{{ $_ := unset $new "host" }}{{ end -}}
{{- if not $new.trafficPolicy.connectionPool }}{{ $_ := unset $new.trafficPolicy "connectionPool" }}{{ end -}}
{{ toYaml (mergeOverwrite $old $new) }}
{{- end }}

{{- define "inferencepool.initContainers" -}}{{- end }}

{{- define "inferencepool.lifecycle" -}}{{- end }}
