{{/* The EndpointPickerConfig when nobody brings one: what the picker does without a config, and where its metrics come from. */}}
{{- define "CHART.defaultPlugins" -}}
{{- if .latency }}{{ include "CHART.latencyPlugins" . }}{{ else -}}
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
  - type: queue-scorer
  - type: kv-cache-utilization-scorer
  - type: prefix-cache-scorer
  - type: metrics-data-source
    parameters:
      scheme: {{ .source.scheme }}
      path: {{ .source.path }}
      insecureSkipVerify: {{ .source.insecureSkipVerify }}
  - type: core-metrics-extractor
    parameters:
      defaultEngine: {{ .engine }}
schedulingProfiles:
  - name: default
    plugins:
      - {pluginRef: queue-scorer, weight: 2}
      - {pluginRef: kv-cache-utilization-scorer, weight: 2}
      - {pluginRef: prefix-cache-scorer, weight: 3}
{{- end }}
{{- end }}

{{/* The same by latency, as upstream has it: those that have the prompt, of these who will be in time, of these who has much of it. */}}
{{- define "CHART.latencyPlugins" -}}
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
  - type: metrics-data-source
    parameters:
      scheme: {{ .source.scheme }}
      path: {{ .source.path }}
      insecureSkipVerify: {{ .source.insecureSkipVerify }}
  - type: core-metrics-extractor
    parameters:
      defaultEngine: {{ .engine }}
  - type: predicted-latency-producer
  - type: latency-slo-admitter
  - type: prefix-cache-affinity-filter
    name: nearly-all-cached
    parameters: {affinityThreshold: 0.99}
  - type: slo-headroom-tier-filter
  - type: prefix-cache-affinity-filter
    name: mostly-cached
    parameters: {affinityThreshold: 0.8}
  - type: latency-scorer
  - type: weighted-random-picker
schedulingProfiles:
  - name: default
    plugins:
      - pluginRef: nearly-all-cached
      - pluginRef: slo-headroom-tier-filter
      - pluginRef: mostly-cached
      - pluginRef: latency-scorer
      - pluginRef: weighted-random-picker
{{- end }}

{{/* Another that upstream's charts have: for requests whose bodies nobody understands. */}}
{{- define "CHART.payloadAgnostic" -}}
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
  - type: passthrough-parser
  - type: active-request-scorer
  - type: session-affinity-scorer
requestHandler:
  parsers:
    - pluginRef: passthrough-parser
schedulingProfiles:
  - name: default
    plugins:
      - pluginRef: active-request-scorer
      - pluginRef: session-affinity-scorer
{{- end }}

{{/* All configs as data of a ConfigMap: values of the component (v), default-plugins.yaml (default). The values' own go before the chart's. */}}
{{- define "CHART.pickerConfigs" -}}
{{- $files := dict "default-plugins.yaml" .default "payload-agnostic.yaml" (include "CHART.payloadAgnostic" .) -}}
{{- with .v.pluginsConfig }}{{ $_ := set $files $.v.pluginsConfigFile (toYaml .) }}{{ end -}}
{{- range $file, $text := .v.pluginsCustomConfig }}{{ $_ := set $files $file $text }}{{ end -}}
{{ toYaml $files }}
{{- end }}
