{{- /* This file is made by scripts/charts.py of charts/src/picker. */}}
{{/*
Picker configs are looked at while rendering, maps and texts: form, types, names and parameters, by files/picker-config.json. What is said
of one has the path in it. Whatever more there is to say, `extproc check` says, and the picker at its start.
*/}}

{{/*
The problems of a value, a line each. form: files/picker-config.json; schema, value, path: of this part. A value that is empty is as
if it were not there, and a number or a boolean may be text.
*/}}
{{- define "standalone.problems" -}}
{{- $s := .schema -}}
{{- if $s.ref }}{{ $s = index .form.defs $s.ref }}{{ end -}}
{{- $kind := get (dict "map" "object" "slice" "array" "string" "string" "bool" "boolean" "invalid" "null") (kindOf .value) | default "number" -}}
{{- $types := $s.type | default list -}}
{{- $text := and (eq $kind "string") (not (has "string" $types)) (or (has "number" $types) (has "integer" $types) (has "boolean" $types)) -}}
{{- $whole := and (eq $kind "number") (eq (float64 .value) (floor (float64 .value))) -}}
{{- if eq $kind "null" -}}
{{- else if $s.anyOf -}}
{{- $said := list -}}
{{- range $s.anyOf }}{{ $said = append $said (include "standalone.problems" (dict "form" $.form "schema" . "value" $.value "path" $.path)) }}{{ end -}}
{{- if not (has "" $said) }}{{ first $said }}{{ end -}}
{{- else if and $types (not (or (has $kind $types) (and $whole (has "integer" $types)) (and $text (regexMatch (include "standalone.asText" $types) .value)))) -}}
{{- $words := list -}}
{{- range $types }}{{ $words = append $words (get (dict "object" "a map" "array" "a list" "string" "text" "integer" "a whole number" "number" "a number" "boolean" "true or false") .) }}{{ end -}}
{{ printf "%s: expected %s (got %s)\n" .path (join " or " $words) (toJson .value | trunc 60) }}
{{- else -}}
{{- include "standalone.problemsOfPlain" (dict "schema" $s "value" .value "path" .path "kind" $kind) -}}
{{- if eq $kind "object" }}{{ include "standalone.problemsOfMap" (dict "form" .form "schema" $s "value" .value "path" .path) }}{{ end -}}
{{- if and (eq $kind "array") $s.items -}}
{{- range $index, $each := .value }}{{ include "standalone.problems" (dict "form" $.form "schema" $s.items "value" $each "path" (printf "%s[%d]" $.path $index)) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Which texts may stand for one of these types. */}}
{{- define "standalone.asText" -}}
{{ ternary "^(?i)(true|false|yes|no|on|off|y|n|t|f|0|1)$" "^\\s*[-+]?[0-9][0-9_]*(\\.[0-9]*)?([eE][-+]?[0-9]+)?\\s*$" (has "boolean" .) }}
{{- end }}

{{/* What can be said of a value without looking into it. */}}
{{- define "standalone.problemsOfPlain" -}}
{{- $got := toJson .value | trunc 60 -}}
{{- $s := .schema -}}
{{- if and $s.enum (not (has .value $s.enum)) }}{{ printf "%s: expected one of %s (got %s)\n" .path (join ", " $s.enum) $got }}{{ end -}}
{{- if eq .kind "number" -}}
{{- $x := float64 .value -}}
{{- if and (hasKey $s "minimum") (lt $x (float64 $s.minimum)) }}{{ printf "%s: expected at least %v (got %s)\n" .path $s.minimum $got }}{{ end -}}
{{- if and (hasKey $s "maximum") (gt $x (float64 $s.maximum)) }}{{ printf "%s: expected at most %v (got %s)\n" .path $s.maximum $got }}{{ end -}}
{{- if and (hasKey $s "exclusiveMinimum") (le $x (float64 $s.exclusiveMinimum)) }}{{ printf "%s: expected more than %v (got %s)\n" .path $s.exclusiveMinimum $got }}{{ end -}}
{{- if and (hasKey $s "exclusiveMaximum") (ge $x (float64 $s.exclusiveMaximum)) }}{{ printf "%s: expected less than %v (got %s)\n" .path $s.exclusiveMaximum $got }}{{ end -}}
{{- else if eq .kind "string" -}}
{{- if and $s.minLength (lt (len .value) (int $s.minLength)) }}{{ printf "%s: expected some text (got %s)\n" .path $got }}{{ end -}}
{{- if and $s.pattern (not (regexMatch $s.pattern .value)) }}{{ printf "%s: expected text of the form %s (got %s)\n" .path $s.pattern $got }}{{ end -}}
{{- else if eq .kind "array" -}}
{{- if and $s.minItems (lt (len .value) (int $s.minItems)) }}{{ printf "%s: expected %v or more (got %d)\n" .path $s.minItems (len .value) }}{{ end -}}
{{- if and $s.maxItems (gt (len .value) (int $s.maxItems)) }}{{ printf "%s: expected %v at most (got %d)\n" .path $s.maxItems (len .value) }}{{ end -}}
{{- end -}}
{{- end }}

{{/* What is in a map: the keys that must be there, those that may not, and what each has. */}}
{{- define "standalone.problemsOfMap" -}}
{{- $s := .schema -}}
{{- $known := $s.properties | default dict -}}
{{- $at := ternary "" (printf "%s." .path) (eq .path "") -}}
{{- range $s.required }}{{ if or (not (hasKey $.value .)) (kindIs "invalid" (get $.value .)) }}{{ printf "%s%s: field required\n" $at . }}{{ end }}{{ end -}}
{{- range $key, $each := .value -}}
{{- $inside := printf "%s%s" $at $key -}}
{{- if hasKey $known $key -}}
{{- include "standalone.problems" (dict "form" $.form "schema" (index $known $key) "value" $each "path" $inside) -}}
{{- else if kindIs "map" $s.additionalProperties -}}
{{- include "standalone.problems" (dict "form" $.form "schema" $s.additionalProperties "value" $each "path" $inside) -}}
{{- else if and (hasKey $s "additionalProperties") (not $s.additionalProperties) -}}
{{ printf "%s: unknown key (there are: %s)\n" $inside (keys $known | sortAlpha | join ", ") }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The problems of one config. root: the chart's context; config: a map; own: types that the image brings along. */}}
{{- define "standalone.problemsOfConfig" -}}
{{- $form := .form -}}
{{- include "standalone.problems" (dict "form" $form "schema" (dict "ref" "EndpointPickerConfig") "value" .config "path" "") -}}
{{- $names := list -}}
{{- $plugins := .config.plugins | default list -}}
{{- range $index, $plugin := ternary $plugins list (kindIs "slice" $plugins) -}}
{{- if and (kindIs "map" $plugin) (kindIs "string" $plugin.type) -}}
{{- $path := printf "plugins[%d]" $index -}}
{{- $name := toString ($plugin.name | default $plugin.type) -}}
{{- if has $name $names }}{{ printf "%s.name: %s is there already\n" $path $name }}{{ end -}}
{{- $names = append $names $name -}}
{{- if hasKey $form.parameters $plugin.type -}}
{{- include "standalone.problems" (dict "form" $form "schema" (dict "ref" (index $form.parameters $plugin.type)) "value" $plugin.parameters "path" (printf "%s.parameters" $path)) -}}
{{- else if has $plugin.type $form.missing -}}
{{- if not $.missing }}{{ printf "%s.type: %s can't be had; the flag allow-missing-plugins leaves it out\n" $path $plugin.type }}{{ end -}}
{{- else if not (has $plugin.type $.own) -}}
{{ printf "%s.type: unknown: %s; a type that your image brings along is named in inferenceExtension.ownPluginTypes\n" $path $plugin.type }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $profiles := .config.schedulingProfiles | default list -}}
{{- range $index, $profile := ternary $profiles list (kindIs "slice" $profiles) -}}
{{- $entries := ternary $profile dict (kindIs "map" $profile) | dig "plugins" list | default list -}}
{{- range $position, $entry := ternary $entries list (kindIs "slice" $entries) -}}
{{- $ref := ternary $entry dict (kindIs "map" $entry) | dig "pluginRef" nil -}}
{{- if and (kindIs "string" $ref) (not (has $ref $names)) -}}
{{ printf "schedulingProfiles[%d].plugins[%d].pluginRef: no plugin is called %s (there are: %s)\n" $index $position $ref (join ", " $names) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Fails with the problems of all configs in the values. Of pluginsCustomConfig it looks at the file that the picker reads and at those
that say that they are configs: there may be others, such as endpoints.
*/}}
{{- define "standalone.checkConfigs" -}}
{{- $v := .Values.inferenceExtension -}}
{{- $flags := include "standalone.flags" (dict "Values" .Values "path" "inferenceExtension") | fromJson -}}
{{- $missing := regexMatch "(?i)allow.missing.plugins" (toJson (list (keys $flags) $v.extraArgs $v.env $v.extraEnv)) -}}
{{- $form := .Files.Get "files/picker-config.json" | fromJson -}}
{{- $configs := list -}}
{{- $problems := list -}}
{{- $router := dig "epp" list .Values.router -}}
{{- $structured := printf "%s.pluginsConfig" (ternary "router.epp" "inferenceExtension" (has "pluginsConfig" $router)) -}}
{{- $custom := printf "%s.pluginsCustomConfig" (ternary "router.epp" "inferenceExtension" (has "pluginsCustomConfig" $router)) -}}
{{- with $v.pluginsConfig }}{{ $configs = append $configs (list $structured .) }}{{ end -}}
{{- if and $v.pluginsConfig (hasKey $v.pluginsCustomConfig $v.pluginsConfigFile) -}}
{{- $problems = append $problems (printf "%s is the file %s, which is in %s, too" $structured $v.pluginsConfigFile $custom) -}}
{{- end -}}
{{- range $file, $text := $v.pluginsCustomConfig -}}
{{- $path := printf "%s.%s" $custom $file -}}
{{- $config := fromYaml $text -}}
{{- $read := eq $file $v.pluginsConfigFile -}}
{{- if and (hasKey $config "Error") (not (hasKey $config "kind")) -}}
{{- if $read }}{{ $problems = append $problems (printf "%s: expected a map in YAML: %s" $path $config.Error) }}{{ end -}}
{{- else if or $read (eq (toString $config.kind) "EndpointPickerConfig") -}}
{{- $configs = append $configs (list $path $config) -}}
{{- end -}}
{{- end -}}
{{- $gateway := .Values.gateway | default dict -}}
{{- with $gateway.scheduling }}{{ $configs = append $configs (list "gateway.scheduling" .) }}{{ end -}}
{{- range $index, $pool := $gateway.pools -}}
{{- with $pool.scheduling }}{{ $configs = append $configs (list (printf "gateway.pools[%d].scheduling" $index) .) }}{{ end -}}
{{- end -}}
{{- range $configs -}}
{{- $path := first . -}}
{{- $told := include "standalone.problemsOfConfig" (dict "form" $form "config" (last .) "own" $v.ownPluginTypes "missing" $missing) -}}
{{- range splitList "\n" $told | compact }}{{ $problems = append $problems (printf "%s.%s" $path .) }}{{ end -}}
{{- end -}}
{{- with $problems }}{{ fail (printf "\n%s" (join "\n" .)) }}{{ end -}}
{{- end }}
