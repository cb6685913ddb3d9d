{{- /* This file is made by scripts/charts.py of charts/src/picker. */}}
{{/*
Upstream's later charts, llm-d-router-gateway and llm-d-router-standalone, have their values under `router` and `httpRoute`. They are put
where this chart has its own, and go before them; what is empty there is left as it is here. It prints nothing and may be called often,
and must be before anything else reads values. Afterwards `router` has two lists of keys: `ignored`, those of no use, and `epp`, those that
were given below it.
*/}}
{{- define "inferencepool.router" -}}
{{- if not .Values.router }}{{ $_ := set .Values "router" dict }}{{ end -}}
{{- if and .Values.router (not (hasKey .Values.router "ignored")) -}}
{{- $ignored := list -}}
{{- range $part := list "routerPicker" "routerMonitoring" "routerPool" "routerProxy" -}}
{{- $ignored = concat $ignored (include (printf "inferencepool.%s" $part) $ | fromJsonArray) -}}
{{- end -}}
{{- $_ := set .Values "router" (dict "ignored" $ignored "epp" (.Values.router.epp | default dict | keys)) -}}
{{- end -}}
{{- with .Values.httpRoute -}}
{{- $moves := list (list . "create" $.Values.experimentalHttpRoute "enabled") -}}
{{- range $key := list "inferenceGatewayName" "inferenceGatewayNamespace" "requestTimeout" "baseModel" "headerMatches" -}}
{{- $moves = append $moves (list $.Values.httpRoute $key $.Values.experimentalHttpRoute $key) -}}
{{- end -}}
{{- include "inferencepool.move" $moves -}}
{{- end -}}
{{- end }}

{{/* Each of a list is a map and a key of it, and where its value is put: another map and a key of that. */}}
{{- define "inferencepool.move" -}}
{{- range . -}}
{{- $value := get (first .) (index . 1) -}}
{{- if or (kindIs "bool" $value) (regexMatch "int|float" (kindOf $value)) $value }}{{ $_ := set (index . 2) (last .) $value }}{{ end -}}
{{- end -}}
{{- end }}

{{/* router.epp, and what earlier versions had beside it. */}}
{{- define "inferencepool.routerPicker" -}}
{{- $r := .Values.router -}}
{{- $e := $r.epp | default dict -}}
{{- $v := .Values.inferenceExtension -}}
{{- $moves := list (list $r "clusterDomain" .Values "clusterDomain") (list $r "metricsPort" $v "metricsPort") (list $r "imagePullSecrets" $v "imagePullSecrets") (list $r "extraServicePorts" $v "extraServicePorts") (list $e "securityContext" $v "containerSecurityContext") (list $e "deploymentStrategy" $v.deployment "strategy") -}}
{{- range list "replicas" "affinity" "tolerations" }}{{ $moves = append $moves (list $r . $v .) }}{{ end -}}
{{- range list "replicas" "affinity" "tolerations" "extProcPort" "grpcHealthPort" "terminationGracePeriodSeconds" "podSecurityContext" "flags" "env" "extraContainerPorts" "volumes" "volumeMounts" "podAnnotations" "resources" "pluginsConfigFile" "pluginsConfig" "pluginsCustomConfig" }}{{ $moves = append $moves (list $e . $v .) }}{{ end -}}
{{- $scaling := $e.autoscaling | default dict -}}
{{- range $key, $value := $scaling }}{{ $moves = append $moves (list $scaling $key $v.autoscaling $key) }}{{ end -}}
{{- $source := $e.metricsDataSource | default dict -}}
{{- range $key, $value := $source }}{{ $moves = append $moves (list $source $key $v.metricsDataSource $key) }}{{ end -}}
{{- $image := $e.image | default dict -}}
{{- /* A tag without a repository is one of upstream's image. */}}
{{- range ternary (list "registry" "repository" "tag" "pullPolicy") (list "pullPolicy") (not (empty $image.repository)) }}{{ $moves = append $moves (list $image . $v.image .) }}{{ end -}}
{{- $predictor := $r.latencyPredictor | default dict -}}
{{- include "inferencepool.move" (append $moves (list $predictor "enabled" $v.latencyPredictor "enabled")) -}}
{{- $ignored := list -}}
{{- range $key := list "parsers" "parser" }}{{ if get $e $key }}{{ $ignored = append $ignored (printf "epp.%s" $key) }}{{ end }}{{ end -}}
{{- if ($r.tokenizer | default dict).enabled }}{{ $ignored = append $ignored "tokenizer" }}{{ end -}}
{{- if $predictor.enabled }}{{ range omit $predictor "enabled" | keys | sortAlpha }}{{ $ignored = append $ignored (printf "latencyPredictor.%s" .) }}{{ end }}{{ end -}}
{{ toJson $ignored }}
{{- end }}

{{/* router.monitoring and router.tracing. Without a provider of metrics on gke it is Google's, as upstream. */}}
{{- define "inferencepool.routerMonitoring" -}}
{{- $r := .Values.router -}}
{{- $v := .Values.inferenceExtension -}}
{{- $m := $r.monitoring | default dict -}}
{{- $prometheus := $m.prometheus | default dict -}}
{{- $auth := $prometheus.auth | default dict -}}
{{- $tracing := $r.tracing | default dict -}}
{{- $sampling := $tracing.sampling | default dict -}}
{{- $provider := $m.provider | default dict -}}
{{- include "inferencepool.move" (list (list $m "interval" $v.monitoring "interval") (list $prometheus "enabled" $v.monitoring.prometheus "enabled") (list $prometheus "extraLabels" $v.monitoring.prometheus "extraLabels") (list $auth "enabled" $v.monitoring.prometheus.auth "enabled") (list $auth "secretName" $v.monitoring.prometheus.auth "secretName") (list $tracing "enabled" $v.tracing "enabled") (list $tracing "otelExporterEndpoint" $v.tracing "otelExporterEndpoint") (list $sampling "sampler" $v.tracing.sampling "sampler") (list $sampling "samplerArg" $v.tracing.sampling "samplerArg") (list $provider "name" $v.monitoring.provider "name") (list ($provider.gmp | default dict) "autopilot" $v.monitoring.provider.gmp "autopilot")) -}}
{{- if and (not $v.monitoring.provider.name) (eq .Values.provider.name "gke") }}{{ $_ := set $v.monitoring.provider "name" "gmp" }}{{ end -}}
[]
{{- end }}

{{/* router.modelServers, router.inferencePool and router.inferenceObjectives. */}}
{{- define "inferencepool.routerPool" -}}
{{- $r := .Values.router -}}
{{- $servers := $r.modelServers | default dict -}}
{{- $pool := $r.inferencePool | default dict -}}
{{- $v := .Values.inferenceExtension -}}
{{- $p := .Values.inferencePool -}}
{{- $numbers := list -}}
{{- range $servers.targetPorts }}{{ $port := . }}{{ if kindIs "map" . }}{{ $port = .number }}{{ end }}{{ $numbers = append $numbers (int $port) }}{{ end -}}
{{- $ports := list -}}
{{- range $numbers }}{{ $ports = append $ports (dict "number" .) }}{{ end -}}
{{- $found := dict "ports" $ports "numbers" $numbers "mode" (ternary "FailClose" $pool.failureMode (eq (toString $pool.failureMode) "FailClosed")) -}}
{{- $moves := list (list $servers "type" $p "modelServerType") (list $servers "protocol" $p "modelServerProtocol") (list $servers "targetPortNumber" $p "targetPortNumber") (list $servers "matchLabels" $p.modelServers "matchLabels") (list $found "ports" $p "targetPorts") (list $pool "apiVersion" $p "apiVersion") (list $found "mode" $v "failureMode") (list $r "inferenceObjectives" .Values "inferenceObjectives") -}}
{{- with $v.endpointsServer -}}
{{- $labels := list -}}
{{- range $key, $value := $servers.matchLabels }}{{ $labels = append $labels (printf "%s=%s" $key $value) }}{{ end -}}
{{- $_ := set $found "selector" (join "," $labels) -}}
{{- $moves = concat $moves (list (list $servers "type" . "modelServerType") (list $found "numbers" . "targetPorts") (list $found "selector" . "endpointSelector") (list $pool "create" . "createInferencePool")) -}}
{{- else -}}
{{- if eq (toString $pool.create) "false" -}}
{{- fail "router.inferencePool.create: false means pods by their labels, which the chart standalone has; for a pool that is there already it is inferencePool.create=false" -}}
{{- end -}}
{{- end -}}
{{- include "inferencepool.move" $moves -}}
[]
{{- end }}

{{/* router.proxy: of the chart standalone its sidecar. */}}
{{- define "inferencepool.routerProxy" -}}
{{- $proxy := .Values.router.proxy | default dict -}}
{{- $ignored := list -}}
{{- if not .Values.inferenceExtension.endpointsServer -}}
{{- if $proxy.enabled }}{{ fail "router.proxy.enabled: a proxy is what the chart standalone has" }}{{ end -}}
{{- else -}}
{{- $sidecar := .Values.inferenceExtension.sidecar -}}
{{- if ne ($proxy.mode | default "sidecar") "sidecar" }}{{ fail "router.proxy.mode: service is not there: Envoy is a sidecar of the picker, and router.epp.replicas is how many there are" }}{{ end -}}
{{- if ne ($proxy.proxyType | default "envoy") "envoy" }}{{ fail (printf "router.proxy.proxyType: %s is not there; expected envoy" $proxy.proxyType) }}{{ end -}}
{{- $config := $proxy.configMap | default dict -}}
{{- $moves := list (list $proxy "configMapData" $sidecar.configMap "data") (list $config "data" $sidecar.configMap "data") -}}
{{- range list "enabled" "name" "image" "imagePullPolicy" "command" "args" "env" "ports" "livenessProbe" "readinessProbe" "resources" "securityContext" "volumes" "volumeMounts" }}{{ $moves = append $moves (list $proxy . $sidecar .) }}{{ end -}}
{{- include "inferencepool.move" $moves -}}
{{- range list "presets" "failOpen" "replicas" "startupProbe" }}{{ if get $proxy . }}{{ $ignored = append $ignored (printf "proxy.%s" .) }}{{ end }}{{ end -}}
{{- end -}}
{{ toJson $ignored }}
{{- end }}
