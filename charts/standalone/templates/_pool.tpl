{{- /* This file is made by scripts/charts.py of charts/src/templates. */}}
{{/* Objects of a pool, for the charts that have one. */}}

{{/*
The ports of inferencePool as a list of numbers. Upstream's values have targetPorts and targetPortNumber side by side, the latter for
v1alpha2; its first chart had only the latter.
*/}}
{{- define "standalone.poolPorts" -}}
{{- $p := .Values.inferencePool -}}
{{- $old := eq $p.apiVersion "inference.networking.x-k8s.io/v1alpha2" -}}
{{- $untouched := and (eq (len $p.targetPorts) 1) (eq (int (first $p.targetPorts).number) 8000) -}}
{{- if and $p.targetPortNumber (or $old $untouched) }}
- {{ int $p.targetPortNumber }}
{{- else }}
{{- range $p.targetPorts }}
- {{ int .number }}
{{- end }}
{{- end }}
{{- end }}

{{- define "standalone.pool" -}}
{{- $c := include "standalone.context" . | fromYaml -}}
{{- $p := .Values.inferencePool -}}
{{- $ports := include "standalone.poolPorts" . | fromYamlArray -}}
apiVersion: {{ $p.apiVersion }}
kind: InferencePool
metadata:
  name: {{ .Release.Name }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "standalone.labels" . | nindent 4 }}
spec:
  {{- if eq $p.apiVersion "inference.networking.x-k8s.io/v1alpha2" }}
  targetPortNumber: {{ first $ports }}
  selector:
    {{- toYaml $p.modelServers.matchLabels | nindent 4 }}
  extensionRef:
    name: {{ $c.name }}
    portNumber: {{ $c.grpcPort }}
    failureMode: {{ .Values.inferenceExtension.failureMode | default "FailOpen" }}
  {{- else }}
  targetPorts:
    {{- range $ports }}
    - number: {{ . }}
    {{- end }}
  {{- if eq ($p.modelServerProtocol | default "http") "grpc" }}
  appProtocol: kubernetes.io/h2c
  {{- end }}
  selector:
    matchLabels:
      {{- toYaml $p.modelServers.matchLabels | nindent 6 }}
  endpointPickerRef:
    group: ""
    kind: Service
    name: {{ $c.name }}
    port: {number: {{ $c.grpcPort }}}
    failureMode: {{ .Values.inferenceExtension.failureMode | default "FailOpen" }}
  {{- end }}
{{- end }}

{{- define "standalone.objectives" -}}
{{- range .Values.inferenceObjectives }}
---
apiVersion: {{ $.Values.inferenceObjectivesApiVersion }}
kind: InferenceObjective
metadata:
  name: {{ .name }}
  namespace: {{ $.Release.Namespace }}
  labels:
    {{- include "standalone.labels" $ | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .priority) }}
  priority: {{ int .priority }}
  {{- end }}
  poolRef:
    group: {{ (split "/" $.Values.inferencePool.apiVersion)._0 }}
    kind: InferencePool
    name: {{ $.Release.Name }}
{{- end }}
{{- end }}

{{/* Rules to watch a pool: `objects` says whether InferencePools and what goes with them, or only pods. */}}
{{- define "standalone.watchRules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
{{- if .objects }}
- apiGroups: [inference.networking.k8s.io, inference.networking.x-k8s.io]
  resources: [inferencepools]
  verbs: [get, list, watch]
{{- end }}
- apiGroups: [inference.networking.x-k8s.io, llm-d.ai]
  resources: [inferenceobjectives, inferencemodelrewrites]
  verbs: [get, list, watch]
{{- end }}
