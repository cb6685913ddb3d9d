{{- /* This file is made by scripts/charts.py of charts/src/templates. */}}
{{/* The EndpointPickerConfig when nobody brings one: what the picker does without a config, and where its metrics come from. */}}
{{- define "body-based-routing.defaultPlugins" -}}
{{- $engines := dict "vllm" "vllm" "sglang" "sglang" "triton-tensorrt-llm" "triton-tensorrt-llm" "trtllm-serve" "trtllm-serve" -}}
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
      defaultEngine: {{ index $engines .engine }}
schedulingProfiles:
  - name: default
    plugins:
      - {pluginRef: queue-scorer, weight: 2}
      - {pluginRef: kv-cache-utilization-scorer, weight: 2}
      - {pluginRef: prefix-cache-scorer, weight: 3}
{{- end }}
