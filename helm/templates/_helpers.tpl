{{/* Names, labels, images and addresses. */}}

{{/* Not empty, unless a parent chart disabled this chart. */}}
{{- define "alovoice-gateway.enabled" -}}
{{- if ne (toString .Values.enabled) "false" -}}true{{- end -}}
{{- end -}}

{{- define "alovoice-gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimAll "-" -}}
{{- end -}}

{{/* At most 50 characters and no dot, so that the name of a Service stays valid with a suffix. */}}
{{- define "alovoice-gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimAll "-" -}}
{{- else -}}
{{- $name := include "alovoice-gateway.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | replace "." "-" | trunc 50 | trimAll "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | replace "." "-" | trunc 50 | trimAll "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change, because the selector of a Deployment is immutable. */}}
{{- define "alovoice-gateway.selectorLabels" -}}
{{- dict "app.kubernetes.io/name" (include "alovoice-gateway.name" .) "app.kubernetes.io/instance" .Release.Name | toYaml -}}
{{- end -}}

{{/* Labels of the pods that serve requests, without the pods of `helm test` and of jobs. */}}
{{- define "alovoice-gateway.servingLabels" -}}
{{ include "alovoice-gateway.selectorLabels" . }}
app.kubernetes.io/component: gateway
{{- end -}}

{{/* A text as the value of a label: at most 63 characters, with a letter or digit at both ends. */}}
{{- define "alovoice-gateway.labelValue" -}}
{{- regexReplaceAll "[^A-Za-z0-9_.-]" . "_" | trimAll "-_." | trunc 63 | trimAll "-_." -}}
{{- end -}}

{{/*
Labels, of {root, component, labels, isPod}. They are merged, because a key that occurs twice is invalid YAML. Labels of selectors win over `labels`, and
these over commonLabels. A changed label replaces the pods, so a pod has no label with the chart's version, nor with the appVersion if a digest pins the
image.
*/}}
{{- define "alovoice-gateway.labels" -}}
{{- $root := .root -}}
{{- $labels := include "alovoice-gateway.selectorLabels" $root | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- with .component -}}{{- $_ := set $labels "app.kubernetes.io/component" . -}}{{- end -}}
{{- $described := dict -}}
{{- if not .isPod -}}
{{- $_ := set $described "helm.sh/chart" (include "alovoice-gateway.labelValue" (printf "%s-%s" $root.Chart.Name $root.Chart.Version)) -}}
{{- end -}}
{{- if not (and .isPod $root.Values.image.digest (not $root.Values.image.tag)) -}}
{{- $_ := set $described "app.kubernetes.io/version" (include "alovoice-gateway.labelValue" ($root.Values.image.tag | default $root.Chart.AppVersion)) -}}
{{- end -}}
{{- merge $labels (.labels | default dict) ($root.Values.commonLabels | default dict) $described | toYaml -}}
{{- end -}}

{{/*
Metadata of an object, of {root} and optionally {suffix, name, namespace, component, labels, annotations, own}. The annotations in `own` win over
`annotations`, and these over commonAnnotations.
*/}}
{{- define "alovoice-gateway.metadata" -}}
{{- $root := .root -}}
{{- $name := .name | default (printf "%s%s" (include "alovoice-gateway.fullname" $root) (.suffix | default "")) -}}
{{- $metadata := dict "name" $name "namespace" (.namespace | default $root.Release.Namespace) -}}
{{- $_ := set $metadata "labels" (include "alovoice-gateway.labels" . | fromYaml) -}}
{{- with merge (dict) (.own | default dict) (.annotations | default dict) ($root.Values.commonAnnotations | default dict) -}}
{{- $_ := set $metadata "annotations" . -}}
{{- end -}}
{{- toYaml $metadata -}}
{{- end -}}

{{- define "alovoice-gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "alovoice-gateway.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/*
An image, of {root, image}. The value global.imageRegistry of a parent chart replaces the registry in it. The first part of an image is a registry if it
contains a dot or a colon, or is localhost.
*/}}
{{- define "alovoice-gateway.mirrored" -}}
{{- $registry := (.root.Values.global | default dict).imageRegistry -}}
{{- if $registry -}}
{{- printf "%s/%s" (trimSuffix "/" $registry) (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" .image "") -}}
{{- else -}}
{{- .image -}}
{{- end -}}
{{- end -}}

{{- define "alovoice-gateway.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- if .Values.image.digest -}}
{{- $image = printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- end -}}
{{- include "alovoice-gateway.mirrored" (dict "root" . "image" $image) -}}
{{- end -}}

{{/* imagePullSecrets and global.imagePullSecrets, as JSON. Parent charts write names or objects. */}}
{{- define "alovoice-gateway.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (.Values.imagePullSecrets | default list) ((.Values.global | default dict).imagePullSecrets | default list) -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- $secrets | uniq | toJson -}}
{{- end -}}

{{- define "alovoice-gateway.claimName" -}}
{{- .Values.database.sqlite.existingClaim | default (include "alovoice-gateway.createdClaimName" .) -}}
{{- end -}}

{{- define "alovoice-gateway.createdClaimName" -}}
{{- printf "%s-data" (include "alovoice-gateway.fullname" .) -}}
{{- end -}}

{{- define "alovoice-gateway.isPostgres" -}}
{{- if eq .Values.database.kind "postgres" -}}true{{- end -}}
{{- end -}}

{{/* The port of "0.0.0.0:8080". */}}
{{- define "alovoice-gateway.apiPort" -}}
{{- regexFind "[0-9]+$" (.Values.config.server.listen | default "0.0.0.0:8080") -}}
{{- end -}}
{{- define "alovoice-gateway.adminPort" -}}
{{- regexFind "[0-9]+$" (.Values.config.server.admin_listen | default "0.0.0.0:9090") -}}
{{- end -}}

{{/* Path under which a route serves the API, of {root, path}: `path`, or else the path of config.server.public_url. */}}
{{- define "alovoice-gateway.routePath" -}}
{{- $public := .root.Values.config.server.public_url | default "" -}}
{{- .path | default (get (urlParse $public) "path" | trimSuffix "/") | default "/" -}}
{{- end -}}

{{/* Public URL of the API: config.server.public_url, or else that of the HTTPRoute or Ingress, or else empty. */}}
{{- define "alovoice-gateway.publicUrl" -}}
{{- $url := .Values.config.server.public_url | default "" | trimSuffix "/" -}}
{{- if and (not $url) .Values.httpRoute.enabled -}}
{{- $url = include "alovoice-gateway.routeUrl" (dict "scheme" "https" "hosts" .Values.httpRoute.hostnames "path" .Values.httpRoute.path) -}}
{{- end -}}
{{- if and (not $url) .Values.ingress.enabled -}}
{{- $scheme := ternary "https" "http" (not (empty .Values.ingress.tls)) -}}
{{- $url = include "alovoice-gateway.routeUrl" (dict "scheme" $scheme "hosts" .Values.ingress.hosts "path" .Values.ingress.path) -}}
{{- end -}}
{{- $url -}}
{{- end -}}

{{/* URL of a route, of {scheme, hosts, path}: the first host without a wildcard, and the path before a regular expression such as "(/|$)(.*)". */}}
{{- define "alovoice-gateway.routeUrl" -}}
{{- $path := regexFind "^/[A-Za-z0-9/._~-]*" (.path | default "/") | trimSuffix "/" -}}
{{- $urls := list -}}
{{- range .hosts -}}
{{- if not (hasPrefix "*" .) -}}{{- $urls = append $urls (printf "%s://%s%s" $.scheme . $path) -}}{{- end -}}
{{- end -}}
{{- if $urls -}}{{- first $urls -}}{{- end -}}
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

{{/* Longest start in seconds, for which the startup probe waits. */}}
{{- define "alovoice-gateway.startSeconds" -}}
{{- mul (int .Values.probes.startup.periodSeconds) (int .Values.probes.startup.failureThreshold) -}}
{{- end -}}

{{/* The members of a map that are not empty. */}}
{{- define "alovoice-gateway.nonEmpty" -}}
{{- $members := dict -}}
{{- range $key, $value := . -}}{{- if $value -}}{{- $_ := set $members $key $value -}}{{- end -}}{{- end -}}
{{- with $members -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/* How Prometheus scrapes a pod, of the values of a ServiceMonitor or PodMonitor. */}}
{{- define "alovoice-gateway.scrape" -}}
{{- pick . "interval" "scrapeTimeout" "honorLabels" "relabelings" "metricRelabelings" | include "alovoice-gateway.nonEmpty" -}}
{{- end -}}

{{/* One process at a time may use a SQLite file. On PostgreSQL a new pod is ready before an old one stops. */}}
{{- define "alovoice-gateway.strategy" -}}
{{- $strategy := deepCopy (.Values.strategy | default dict) -}}
{{- $_ := set $strategy "type" ($strategy.type | default (ternary "RollingUpdate" "Recreate" (eq .Values.database.kind "postgres"))) -}}
{{- if eq $strategy.type "RollingUpdate" -}}
{{- $_ := set $strategy "rollingUpdate" (mergeOverwrite (dict "maxUnavailable" 0 "maxSurge" 1) ($strategy.rollingUpdate | default dict)) -}}
{{- else -}}
{{- $strategy = pick $strategy "type" -}}
{{- end -}}
{{- toYaml $strategy -}}
{{- end -}}
