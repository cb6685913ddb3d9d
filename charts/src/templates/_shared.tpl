{{/*
What the charts share. Each chart defines CHART.context, a YAML map:
  path        key of the component in the values
  name        name of all objects
  container   name of our container
  command     subcommand of extproc
  selector    labels of the pods
  grpcPort, healthPort, appProtocol
  flags       flags that the chart sets; the values' own go before them
  moreArgs    arguments that may come more than once
  configMap   there is a ConfigMap with CHART.configData, mounted at /config
  volumes     volumes of CHART.moreContainers, and those of mounts
  mounts      more mounts of our container
  env         more of its environment
  recreate    two pods can't be there at once
  servicePorts, clientPorts  ports of theirs, in the Service and by name in the NetworkPolicy
  namespaced  the process is told its namespace
  owned       flags that another value sets, with that value's key: refused in the values' flags
  election    leader election is on
  api         the process talks to the API server
  metricsAuth /metrics asks who reads it
Beside it: CHART.moreContainers, CHART.initContainers and CHART.lifecycle of our container, each may be empty.
*/}}

{{- define "CHART.labels" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ $c.container }}
app.kubernetes.io/part-of: extproc
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
registry/repository:tag, or hub/name:tag as in earlier charts; a digest goes before the tag. Upstream's own image can't be what is
meant: values files that were made for its charts have it, and it would not start with these arguments.
*/}}
{{- define "CHART.image" -}}
{{- $i := .image -}}
{{- $path := printf "%s/%s" $i.registry $i.repository -}}
{{- if $i.hub }}{{ $path = printf "%s/%s" $i.hub ($i.name | default "extproc") }}{{ end -}}
{{- if regexMatch "(gateway-api-inference-extension/(bbr|epp)|/llm-d-(router-endpoint-picker|inference-scheduler)(-dev)?)$" $path -}}
ghcr.io/extproc/extproc:{{ .root.Chart.AppVersion }}
{{- else if $i.digest }}{{ printf "%s@%s" $path $i.digest }}{{ else }}{{ printf "%s:%s" $path ($i.tag | default .root.Chart.AppVersion) }}{{ end -}}
{{- end }}

{{- define "CHART.serviceAccountName" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
{{- $account := (index .Values $c.path).serviceAccount -}}
{{- if $account.create }}{{ $account.name | default $c.name }}{{ else }}{{ $account.name | default "default" }}{{ end -}}
{{- end }}

{{/* Objects without a namespace carry the release's in their name. */}}
{{- define "CHART.clusterName" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
{{ printf "%s-%s" .Release.Namespace $c.name }}
{{- end }}

{{- define "CHART.metricsSecretName" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
{{- $m := (index .Values $c.path).monitoring -}}
{{ $m.prometheus.auth.secretName | default $m.secret.name | default (printf "%s-metrics-reader" $c.name) }}
{{- end }}

{{/* Seconds until SIGKILL; less than we need to end in order would cut answers, so it is refused. */}}
{{- define "CHART.gracePeriod" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
{{- $v := index .Values $c.path -}}
{{- $least := add (int $v.shutdownDelaySeconds) (int $v.drainTimeoutSeconds) 5 -}}
{{- $given := $v.terminationGracePeriodSeconds -}}
{{- if and $given (lt (int $given) (int $least)) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds is %d, but shutdownDelaySeconds + drainTimeoutSeconds + 5 is %d: the pod would be killed in the middle of its drain" $c.path (int $given) (int $least)) -}}
{{- end -}}
{{ $given | default $least }}
{{- end }}

{{/* The component's flags as a map, by their names without dashes. Upstream's charts of v1.0 and v1.1 have a list of names and values. */}}
{{- define "CHART.flags" -}}
{{- $given := (index .Values .path).flags | default dict -}}
{{- $flags := dict -}}
{{- if kindIs "map" $given -}}
{{- range $flag, $value := $given }}{{ $_ := set $flags (trimPrefix "--" $flag) $value }}{{ end -}}
{{- else -}}
{{- range $given }}{{ $_ := set $flags (trimPrefix "--" .name) .value }}{{ end -}}
{{- end -}}
{{ toJson $flags }}
{{- end }}

{{/* The container's args as a YAML list: subcommand, flags in the alphabet's order, extraArgs. */}}
{{- define "CHART.args" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
{{- $v := index .Values $c.path -}}
{{- $flags := include "CHART.flags" (dict "Values" .Values "path" $c.path) | fromJson -}}
{{- range $flag, $key := $c.owned -}}
{{- if hasKey $flags $flag -}}
{{- fail (printf "%s.flags.%s: set %s instead, other objects depend on it" $c.path $flag $key) -}}
{{- end -}}
{{- end -}}
{{- $all := dict -}}
{{- range $flag, $value := $c.flags }}{{ $_ := set $all $flag $value }}{{ end -}}
{{- range $flag, $value := $flags }}{{ $_ := set $all $flag $value }}{{ end -}}
- {{ $c.command }}
{{- range $flag, $value := $all }}
{{- if kindIs "invalid" $value }}
- {{ printf "--%s" $flag | quote }}
{{- else if kindIs "float64" $value }}
- {{ printf "--%s=%s" $flag ($value | toJson) | quote }}
{{- else }}
- {{ printf "--%s=%v" $flag $value | quote }}
{{- end }}
{{- end }}
{{- range concat ($c.moreArgs | default list) $v.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* A probe: what the values say, on gRPC health unless they have a handler of their own. */}}
{{- define "CHART.probe" -}}
{{- $probe := omit .probe "enabled" -}}
{{- if not (or $probe.grpc $probe.httpGet $probe.exec $probe.tcpSocket) -}}
{{- $_ := set $probe "grpc" (dict "port" .port "service" .service) -}}
{{- end -}}
{{ toYaml $probe }}
{{- end }}

{{- define "CHART.env" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
{{- $v := index .Values $c.path -}}
{{- if $c.namespaced }}
- name: NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- with $v.tracing }}
{{- if or .enabled $v.trace.enabled }}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OTEL_SERVICE_NAME
  value: {{ .otelServiceName | default $c.name | quote }}
- name: OTEL_TRACES_EXPORTER
  value: otlp
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .otelExporterEndpoint | quote }}
- name: OTEL_TRACES_SAMPLER
  value: {{ .sampling.sampler | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .sampling.samplerArg | toString | quote }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.namespace.name=$(POD_NAMESPACE),k8s.node.name=$(NODE_NAME),k8s.pod.name=$(POD_NAME)
{{- end }}
{{- end }}
{{- $env := $v.env }}
{{- if kindIs "map" $env }}
{{- $env = list }}
{{- range $name, $value := $v.env }}{{ $env = append $env (dict "name" $name "value" (toString $value)) }}{{ end }}
{{- end }}
{{- range concat ($c.env | default list) $env $v.extraEnv }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}

{{/* Our container. */}}
{{- define "CHART.container" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
{{- $v := index .Values $c.path -}}
name: {{ $c.container }}
image: {{ include "CHART.image" (dict "image" $v.image "root" .) | quote }}
imagePullPolicy: {{ $v.image.pullPolicy }}
args:
  {{- include "CHART.args" . | nindent 2 }}
env:
  {{- include "CHART.env" . | trim | nindent 2 }}
{{- with $v.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: grpc, containerPort: {{ $c.grpcPort }}, protocol: TCP}
  - {name: grpc-health, containerPort: {{ $c.healthPort }}, protocol: TCP}
  - {name: metrics, containerPort: {{ $v.metricsPort }}, protocol: TCP}
  {{- with $v.extraContainerPorts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- range $kind, $service := dict "startupProbe" "liveness" "livenessProbe" "liveness" "readinessProbe" "readiness" }}
{{- $probe := index $v $kind }}
{{- if $probe.enabled }}
{{ $kind }}:
  {{- include "CHART.probe" (dict "probe" $probe "port" $c.healthPort "service" $service) | nindent 2 }}
{{- end }}
{{- end }}
{{- with include "CHART.lifecycle" . | trim }}
lifecycle:
  {{- . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml $v.resources | nindent 2 }}
securityContext:
  {{- toYaml $v.containerSecurityContext | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- if $c.configMap }}
  - {name: config, mountPath: /config, readOnly: true}
  {{- end }}
  {{- if $v.tls.secretName }}
  - {name: tls, mountPath: /etc/extproc/tls, readOnly: true}
  {{- end }}
  {{- if $v.tls.clientCaSecretName }}
  - {name: client-ca, mountPath: /etc/extproc/client-ca, readOnly: true}
  {{- end }}
  {{- range concat $v.volumeMounts $v.extraVolumeMounts ($c.mounts | default list) }}
  - {{ toYaml . | nindent 4 | trim }}
  {{- end }}
{{- end }}

{{/* What the pod has beside its containers. */}}
{{- define "CHART.podRest" -}}
{{- $c := include "CHART.context" . | fromYaml -}}
{{- $v := index .Values $c.path -}}
serviceAccountName: {{ include "CHART.serviceAccountName" . }}
automountServiceAccountToken: {{ $c.api }}
terminationGracePeriodSeconds: {{ include "CHART.gracePeriod" . }}
securityContext:
  {{- toYaml $v.podSecurityContext | nindent 2 }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- with $v.topologySpreadConstraints }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- toYaml $c.selector | nindent 8 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- if $c.configMap }}
  - name: config
    configMap: {name: {{ $c.name }}}
  {{- end }}
  {{- with $v.tls.secretName }}
  - name: tls
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
  {{- with $v.tls.clientCaSecretName }}
  - name: client-ca
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
  {{- range concat $v.volumes $v.extraVolumes ($c.volumes | default list) }}
  - {{ toYaml . | nindent 4 | trim }}
  {{- end }}
{{- end }}

{{/*
An Istio trafficPolicy (policy) that speaks TLS on one port of a Service (port): health and metrics are plaintext. `tls` of the given
policy means that port; without it, secure says whether TLS that looks at nobody's signature, or what the mesh does by itself. Istio
lets a port inherit nothing, so what else holds for all ports is said again for this one. Nothing when there is nothing to say.
*/}}
{{- define "CHART.trafficPolicy" -}}
{{- $port := int .port -}}
{{- $policy := deepCopy .policy -}}
{{- $others := list -}}
{{- $settings := deepCopy (pick $policy "connectionPool" "loadBalancer" "outlierDetection" "tls") -}}
{{- range $policy.portLevelSettings | default list -}}
{{- if eq (int (dig "port" "number" 0 .)) $port }}{{ $settings = mergeOverwrite $settings . }}{{ else }}{{ $others = append $others . }}{{ end -}}
{{- end -}}
{{- if and .secure (not $settings.tls) }}{{ $_ := set $settings "tls" (dict "mode" "SIMPLE" "insecureSkipVerify" true) }}{{ end -}}
{{- if omit $settings "port" }}{{ $others = prepend $others (set $settings "port" (dict "number" $port)) }}{{ end -}}
{{- $policy = omit $policy "tls" "portLevelSettings" -}}
{{- if $others }}{{ $_ := set $policy "portLevelSettings" $others }}{{ end -}}
{{- if $policy }}{{ toYaml $policy }}{{ end -}}
{{- end }}
