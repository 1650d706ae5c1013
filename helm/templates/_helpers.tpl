{{/* Names and labels. */}}

{{- define "alovoice-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 50 characters, so that the name of a Service stays valid with a suffix. */}}
{{- define "alovoice-gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "alovoice-gateway.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change, because the selector of a Deployment is immutable. */}}
{{- define "alovoice-gateway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "alovoice-gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of the pods that serve requests, without the pods of `helm test`. */}}
{{- define "alovoice-gateway.servingLabels" -}}
{{ include "alovoice-gateway.selectorLabels" . }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "alovoice-gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "alovoice-gateway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "alovoice-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "alovoice-gateway.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "alovoice-gateway.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "alovoice-gateway.claimName" -}}
{{- .Values.database.sqlite.existingClaim | default (printf "%s-data" (include "alovoice-gateway.fullname" .)) -}}
{{- end -}}

{{- define "alovoice-gateway.isPostgres" -}}
{{- if eq .Values.database.kind "postgres" -}}true{{- end -}}
{{- end -}}

{{- define "alovoice-gateway.replicas" -}}
{{- if include "alovoice-gateway.isPostgres" . -}}
{{- if hasKey .Values "replicaCount" -}}{{ int .Values.replicaCount }}{{- else -}}2{{- end -}}
{{- else -}}1{{- end -}}
{{- end -}}

{{/* Minimum number of pods. */}}
{{- define "alovoice-gateway.leastReplicas" -}}
{{- if .Values.autoscaling.enabled -}}{{ int .Values.autoscaling.minReplicas }}{{- else -}}{{ include "alovoice-gateway.replicas" . }}{{- end -}}
{{- end -}}

{{/* The port of "0.0.0.0:8080". */}}
{{- define "alovoice-gateway.apiPort" -}}
{{- regexFind "[0-9]+$" (.Values.config.server.listen | default "0.0.0.0:8080") -}}
{{- end -}}
{{- define "alovoice-gateway.adminPort" -}}
{{- regexFind "[0-9]+$" (.Values.config.server.admin_listen | default "0.0.0.0:9090") -}}
{{- end -}}

{{/* A duration of the settings ("25s") in whole seconds, rounded up. */}}
{{- define "alovoice-gateway.seconds" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[a-z]+$" . -}}
{{- if eq $unit "ms" -}}{{ div (add $number 999) 1000 }}
{{- else -}}{{ mul $number (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) $unit) }}
{{- end -}}
{{- end -}}

{{/* Longer than the preStop hook and the shutdown of the gateway together. */}}
{{- define "alovoice-gateway.gracePeriod" -}}
{{- $grace := include "alovoice-gateway.seconds" (.Values.config.server.shutdown_grace | default "25s") | int64 -}}
{{- add (int64 .Values.drain.preStopSleepSeconds) $grace (int64 .Values.drain.marginSeconds) -}}
{{- end -}}

{{/* Fails on values that would render but not work. */}}
{{- define "alovoice-gateway.validate" -}}
{{- if not .Values.config.auth.issuers -}}
{{- fail "\n\nconfig.auth.issuers is empty: list the issuers whose tokens are accepted, see the example in values.yaml." -}}
{{- end -}}
{{- if not .Values.config.tenants -}}
{{- fail "\n\nconfig.tenants is empty: say who the callers work for, see the example in values.yaml." -}}
{{- end -}}
{{- if include "alovoice-gateway.isPostgres" . -}}
{{- if not .Values.database.postgres.host -}}
{{- fail "\n\ndatabase.postgres.host is empty: say where the PostgreSQL server is." -}}
{{- end -}}
{{- else -}}
{{- if gt (int (.Values.replicaCount | default 1)) 1 -}}
{{- fail "\n\nreplicaCount must be 1 with database.kind sqlite: one process at a time may use the file. With postgres there can be many." -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail "\n\nautoscaling.enabled needs database.kind postgres: one process at a time may use a SQLite file." -}}
{{- end -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "\n\nautoscaling.minReplicas must be at most autoscaling.maxReplicas." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "\n\ningress.hosts is empty: name the host under which the API is reached." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "\n\nhttpRoute.parentRefs is empty: name the Gateway." -}}
{{- end -}}
{{- end -}}
