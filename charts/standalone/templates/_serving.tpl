{{/*
What servingEndpoints adds to the pod: flags, mounts, volumes, env; claim: SQLite lies on a volume; servicePort of the API, 0 for none.
*/}}
{{- define "standalone.serving" -}}
{{- $s := .Values.servingEndpoints -}}
{{- $flags := dict -}}
{{- $mounts := list -}}
{{- $volumes := list -}}
{{- $env := list -}}
{{- $claim := false -}}
{{- $port := 0 -}}
{{- if $s.enabled -}}
{{- $secrets := list -}}
{{- if $s.api.enabled -}}
{{- $port = int ($s.api.servicePort | default 0) -}}
{{- $_ := set $flags "api-port" (int $s.api.port) -}}
{{- $_ := set $flags "api-bind-address" (ternary "0.0.0.0" "127.0.0.1" (or (gt $port 0) (not .Values.inferenceExtension.sidecar.enabled))) -}}
{{- $_ := set $flags "api-auth" $s.api.auth -}}
{{- if eq $s.api.auth "tokens" -}}
{{- $_ := set $flags "api-tokens-file" "/etc/extproc/api-tokens/tokens.yaml" -}}
{{- $secrets = append $secrets (dict "name" "api-tokens" "secret" $s.api.tokensSecretName "path" "/etc/extproc/api-tokens") -}}
{{- end -}}
{{- $d := $s.database -}}
{{- if $d.secretName -}}
{{- $env = append $env (dict "name" "EXTPROC_DATABASE_URL" "valueFrom" (dict "secretKeyRef" (dict "name" $d.secretName "key" $d.secretKey))) -}}
{{- else -}}
{{- $_ := set $flags "database-url" ($d.url | default "sqlite:////var/lib/extproc/state.db") -}}
{{- end -}}
{{- if not (or $d.url $d.secretName) -}}
{{- $claim = true -}}
{{- $name := $d.persistence.existingClaim | default (include "standalone.claimName" .) -}}
{{- $mounts = append $mounts (dict "name" "state" "mountPath" "/var/lib/extproc") -}}
{{- $volumes = append $volumes (dict "name" "state" "persistentVolumeClaim" (dict "claimName" $name)) -}}
{{- end -}}
{{- if $d.plaintextKeySecretName -}}
{{- $_ := set $flags "plaintext-key-file" "/etc/extproc/plaintext-keys/keys" -}}
{{- $secrets = append $secrets (dict "name" "plaintext-keys" "secret" $d.plaintextKeySecretName "path" "/etc/extproc/plaintext-keys") -}}
{{- end -}}
{{- end -}}
{{- with $s.external.allow -}}{{- $_ := set $flags "external-allow" (join "," .) -}}{{- end -}}
{{- $_ := set $flags "external-timeout" $s.external.timeout -}}
{{- with $s.external.secretsNamespace -}}{{- $_ := set $flags "secrets-namespace" . -}}{{- end -}}
{{- with $s.external.secretMounts -}}{{- $_ := set $flags "secrets-dir" "/etc/extproc/secrets" -}}{{- end -}}
{{- range $index, $name := $s.external.secretMounts -}}
{{- $secrets = append $secrets (dict "name" (printf "secrets-%d" $index) "secret" $name "path" (printf "/etc/extproc/secrets/%s" $name)) -}}
{{- end -}}
{{- if $s.configMaps.enabled -}}
{{- $_ := set $flags "endpoint-configmaps" "true" -}}
{{- $_ := set $flags "endpoint-configmaps-namespace" ($s.configMaps.namespace | default .Release.Namespace) -}}
{{- end -}}
{{- range $secrets -}}
{{- $mounts = append $mounts (dict "name" .name "mountPath" .path "readOnly" true) -}}
{{- $volumes = append $volumes (dict "name" .name "secret" (dict "secretName" .secret "defaultMode" 288)) -}}
{{- end -}}
{{- end -}}
{{ toJson (dict "flags" $flags "mounts" $mounts "volumes" $volumes "env" $env "claim" $claim "servicePort" $port) }}
{{- end }}

{{/* Of the chart's own claim. Not by standalone.context, which asks for this. */}}
{{- define "standalone.claimName" -}}
{{ printf "%s-epp-state" (.Release.Name | trunc 40 | trimSuffix "-") }}
{{- end }}
