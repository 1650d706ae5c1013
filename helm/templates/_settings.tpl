{{/*
The gateway's settings, from values to TOML.

  settings   config, and what the chart adds: the store's URL and files, the public URL. Files are still {secret, key} here.
  paths      the same with a path in place of each such file
  files      these files: a list of {file, source}
  toml       a table as TOML. Helm's own toToml makes floats of whole numbers, which the gateway refuses.

A template returns text, so structured data is passed as JSON.
*/}}

{{/* Where files are mounted. */}}
{{- define "alovoice-gateway.filesPath" -}}/run/secrets/alovoice-gateway{{- end -}}

{{- define "alovoice-gateway.settings" -}}
{{- $config := deepCopy .Values.config -}}
{{- $store := $config.store | default dict -}}
{{- if include "alovoice-gateway.isPostgres" . -}}
{{- $_ := set $store "url" (include "alovoice-gateway.postgresUrl" .) -}}
{{- with .Values.database.postgres.password -}}
{{- $_ := set $store "password_file" . -}}
{{- end -}}
{{- else -}}
{{- $_ := set $store "url" "sqlite:///data/alovoice-gateway.db" -}}
{{- /* A deleted pod uses the file for up to its grace period, while the pod that replaces it starts. */ -}}
{{- if not $store.lock_timeout -}}
{{- $_ := set $store "lock_timeout" (printf "%ds" (include "alovoice-gateway.gracePeriod" . | int64 | min 3600)) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "store" $store -}}
{{- if not $config.server.public_url -}}
{{- with include "alovoice-gateway.publicUrl" . -}}
{{- $_ := set $config.server "public_url" . -}}
{{- end -}}
{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{/* Percent-encodes a space as %20, because the gateway reads a plus as a plus. */}}
{{- define "alovoice-gateway.percent" -}}{{ urlquery . | replace "+" "%20" }}{{- end -}}

{{- define "alovoice-gateway.postgresUrl" -}}
{{- $p := .Values.database.postgres -}}
{{- $parameters := list (printf "sslmode=%s" $p.sslMode) -}}
{{- if kindIs "string" $p.ca -}}
{{- $parameters = append $parameters (printf "sslrootcert=%s" (include "alovoice-gateway.percent" $p.ca)) -}}
{{- else if $p.ca -}}
{{- $path := printf "%s/store.ca" (include "alovoice-gateway.filesPath" .) -}}
{{- $parameters = append $parameters (printf "sslrootcert=%s" (include "alovoice-gateway.percent" $path)) -}}
{{- end -}}
{{- range $name, $value := $p.parameters -}}
{{- $parameters = append $parameters (printf "%s=%s" $name (include "alovoice-gateway.percent" (toString $value))) -}}
{{- end -}}
{{- $user := include "alovoice-gateway.percent" $p.user -}}
{{- $name := include "alovoice-gateway.percent" $p.name -}}
{{- $servers := list -}}
{{- range splitList "," $p.host -}}
{{- $servers = append $servers (printf "%s:%d" . (int $p.port)) -}}
{{- end -}}
{{- printf "postgres://%s@%s/%s?%s" $user (join "," $servers) $name (join "&" $parameters) -}}
{{- end -}}

{{/*
Name of an element of a list, of {index, value}. An issuer has a name of its own: running pods read their files again, so the name of a file must keep its
meaning when another issuer is put before it.
*/}}
{{- define "alovoice-gateway.elementName" -}}
{{- if and (kindIs "map" .value) (hasKey .value "issuer") -}}
{{- $host := regexReplaceAll "^[a-z]+://" .value.issuer "" -}}
{{- printf "%s-%s" (regexReplaceAll "[^A-Za-z0-9]+" $host "-" | trunc 40 | trimAll "-") (sha256sum .value.issuer | trunc 8) -}}
{{- else -}}
{{- .index -}}
{{- end -}}
{{- end -}}

{{/* Of {value, at, filesPath}, where `at` is the key's path: JSON with a path in place of each file. */}}
{{- define "alovoice-gateway.paths" -}}
{{- $top := . -}}
{{- if and (kindIs "map" .value) (hasSuffix "_file" .at) -}}
{{- printf "%s/%s" .filesPath .at | toRawJson -}}
{{- else if kindIs "map" .value -}}
{{- $members := list -}}
{{- range $key, $value := .value -}}
{{- $at := empty $top.at | ternary $key (printf "%s.%s" $top.at $key) -}}
{{- $inner := include "alovoice-gateway.paths" (dict "value" $value "at" $at "filesPath" $top.filesPath) -}}
{{- $members = append $members (printf "%s: %s" (toRawJson $key) $inner) -}}
{{- end -}}
{{- printf "{%s}" (join ", " $members) -}}
{{- else if kindIs "slice" .value -}}
{{- $elements := list -}}
{{- range $index, $value := .value -}}
{{- $at := printf "%s.%s" $top.at (include "alovoice-gateway.elementName" (dict "index" $index "value" $value)) -}}
{{- $elements = append $elements (include "alovoice-gateway.paths" (dict "value" $value "at" $at "filesPath" $top.filesPath)) -}}
{{- end -}}
{{- printf "[%s]" (join ", " $elements) -}}
{{- else -}}
{{- toRawJson .value -}}
{{- end -}}
{{- end -}}

{{/* Of {value, at}: JSON objects, each with a comma after it. */}}
{{- define "alovoice-gateway.filesIn" -}}
{{- $top := . -}}
{{- if and (kindIs "map" .value) (hasSuffix "_file" .at) -}}
{{- dict "file" .at "source" .value | toRawJson -}},
{{- else if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- $at := empty $top.at | ternary $key (printf "%s.%s" $top.at $key) -}}
{{- include "alovoice-gateway.filesIn" (dict "value" $value "at" $at) -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- $name := include "alovoice-gateway.elementName" (dict "index" $index "value" $value) -}}
{{- include "alovoice-gateway.filesIn" (dict "value" $value "at" (printf "%s.%s" $top.at $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "alovoice-gateway.files" -}}
{{- $found := include "alovoice-gateway.filesIn" (dict "value" (include "alovoice-gateway.settings" . | fromJson) "at" "") -}}
{{- if and (include "alovoice-gateway.isPostgres" .) (kindIs "map" .Values.database.postgres.ca) .Values.database.postgres.ca -}}
{{- $found = printf "%s%s," $found (dict "file" "store.ca" "source" .Values.database.postgres.ca | toRawJson) -}}
{{- end -}}
{{- printf "[%s]" (trimSuffix "," $found) -}}
{{- end -}}

{{/* The volume of these files, as the list of a projected volume's sources. */}}
{{- define "alovoice-gateway.fileSources" -}}
{{- $created := include "alovoice-gateway.fullname" . -}}
{{- range include "alovoice-gateway.files" . | fromJsonArray }}
{{- if .source.configMap }}
- configMap:
    name: {{ .source.configMap }}
    items:
      - key: {{ .source.key }}
        path: {{ .file }}
{{- else }}
- secret:
    name: {{ .source.secret | default $created }}
    items:
      - key: {{ .source.key | default .file }}
        path: {{ .file }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "alovoice-gateway.tomlKey" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . -}}{{ . }}{{- else -}}{{ toRawJson . }}{{- end -}}
{{- end -}}

{{- define "alovoice-gateway.tomlValue" -}}
{{- if kindIs "slice" . -}}
{{- $elements := list -}}
{{- range . -}}
{{- $elements = append $elements (include "alovoice-gateway.tomlValue" .) -}}
{{- end -}}
{{- printf "[%s]" (join ", " $elements) -}}
{{- else if kindIs "float64" . -}}
{{- if eq . (floor .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- else -}}
{{- toRawJson . -}}
{{- end -}}
{{- end -}}

{{/* Of {table, at}: keys first, then the tables inside. */}}
{{- define "alovoice-gateway.toml" -}}
{{- $top := . -}}
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value) (and (kindIs "slice" $value) $value (kindIs "map" (first $value)))) }}
{{ include "alovoice-gateway.tomlKey" $key }} = {{ include "alovoice-gateway.tomlValue" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- $at := printf "%s%s" (empty $top.at | ternary "" (printf "%s." $top.at)) (include "alovoice-gateway.tomlKey" $key) }}
{{- if kindIs "map" $value }}

[{{ $at }}]
{{- include "alovoice-gateway.toml" (dict "table" $value "at" $at) }}
{{- else if and (kindIs "slice" $value) $value (kindIs "map" (first $value)) }}
{{- range $value }}

[[{{ $at }}]]
{{- include "alovoice-gateway.toml" (dict "table" . "at" $at) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "alovoice-gateway.settingsFile" -}}
{{- $settings := include "alovoice-gateway.settings" . | fromJson -}}
{{- $filesPath := include "alovoice-gateway.filesPath" . -}}
{{- $table := include "alovoice-gateway.paths" (dict "value" $settings "at" "" "filesPath" $filesPath) | fromJson -}}
{{- include "alovoice-gateway.toml" (dict "table" $table "at" "") | trim -}}
{{- end -}}
