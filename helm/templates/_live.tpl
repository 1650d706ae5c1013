{{/*
State of the release in the cluster. `lookup` finds nothing in `helm template` and in tools that use it: then these templates render as for a first
installation.
*/}}

{{/* The Deployment in the cluster, as JSON; {} if there is none. */}}
{{- define "alovoice-gateway.liveDeployment" -}}
{{- lookup "apps/v1" "Deployment" .Release.Namespace (include "alovoice-gateway.fullname" .) | toJson -}}
{{- end -}}

{{/* Annotation of a Deployment that is rendered without `replicas`. */}}
{{- define "alovoice-gateway.unmanagedReplicas" -}}alovoice-gateway/replicas{{- end -}}

{{/*
Number of pods in the Deployment; empty if the field is left to an autoscaler.

A field that the previous manifest had and the next one has not is deleted by Helm, and the API server then sets its default, 1. So if an autoscaler
takes over a live Deployment, the field stays, with the number that is live. A Deployment that was created without the field has an annotation, and stays
without it.
*/}}
{{- define "alovoice-gateway.replicas" -}}
{{- $isNull := or (eq (toString .Values.replicaCount) "") (and (hasKey .Values "replicaCount") (kindIs "invalid" .Values.replicaCount)) -}}
{{- if and (not $isNull) (eq (toString .Values.replicaCount) "0") -}}0
{{- else if or .Values.autoscaling.enabled $isNull -}}
{{- $live := include "alovoice-gateway.liveDeployment" . | fromJson -}}
{{- if and $live (not (hasKey ($live.metadata.annotations | default dict) (include "alovoice-gateway.unmanagedReplicas" .))) -}}
{{- $least := ternary (int .Values.autoscaling.minReplicas) 0 .Values.autoscaling.enabled -}}
{{- /* An autoscaler does not scale a Deployment that has 0 pods. */ -}}
{{- max (int $live.spec.replicas) $least -}}
{{- end -}}
{{- else -}}
{{- .Values.replicaCount | default (ternary 2 1 (eq .Values.database.kind "postgres")) | int -}}
{{- end -}}
{{- end -}}

{{/* Whether there may be two pods or more: a PodDisruptionBudget for one pod would only block the drain of its node. */}}
{{- define "alovoice-gateway.hasSeveralPods" -}}
{{- if .Values.autoscaling.enabled -}}
{{- if gt (int .Values.autoscaling.minReplicas) 1 -}}true{{- end -}}
{{- else -}}
{{- $replicas := include "alovoice-gateway.replicas" . -}}
{{- if and (include "alovoice-gateway.isPostgres" .) (or (not $replicas) (gt (int $replicas) 1)) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of the claim that a Deployment mounts, of the Deployment. */}}
{{- define "alovoice-gateway.mountedClaim" -}}
{{- if .spec -}}
{{- range .spec.template.spec.volumes -}}
{{- if and (eq .name "data") .persistentVolumeClaim -}}{{- .persistentVolumeClaim.claimName -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
The claim that this release created, if it is in the cluster and the values no longer need it: JSON, or empty. It stays in the manifest. Otherwise
`helm rollback` to a revision with the claim would fail, because the claim still exists.
*/}}
{{- define "alovoice-gateway.retainedClaim" -}}
{{- if or (include "alovoice-gateway.isPostgres" .) .Values.database.sqlite.existingClaim -}}
{{- with lookup "v1" "PersistentVolumeClaim" .Release.Namespace (include "alovoice-gateway.createdClaimName" .) -}}
{{- if include "alovoice-gateway.isOwn" (dict "root" $ "object" .) -}}{{- toJson . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails if an upgrade would leave the pods of the release behind. */}}
{{- define "alovoice-gateway.validateUpgrade" -}}
{{- $fullname := include "alovoice-gateway.fullname" . -}}
{{- range (lookup "apps/v1" "Deployment" .Release.Namespace "").items -}}
{{- if and (ne .metadata.name $fullname) (include "alovoice-gateway.isOwn" (dict "root" $ "object" .)) -}}
{{- fail (printf "\n\nThe release runs the Deployment %s, and this upgrade would create %s beside it, with a new, empty volume if it uses SQLite. Restore nameOverride and fullnameOverride. To rename the release, see \"Rename\" in docs/kubernetes.md. If %s is left over from a failed upgrade, delete it." .metadata.name $fullname .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- $live := include "alovoice-gateway.liveDeployment" . | fromJson -}}
{{- if $live -}}
{{- if ne ($live.spec.selector.matchLabels | toJson) (include "alovoice-gateway.servingLabels" . | fromYaml | toJson) -}}
{{- fail (printf "\n\nThe Deployment %s selects pods by other labels, and Kubernetes does not change a selector. Restore nameOverride. To rename the release, see \"Rename\" in docs/kubernetes.md." $fullname) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Fails if the gateway would start with an empty SQLite file although the release has data elsewhere: in the claim of its Deployment, in PostgreSQL, or in a
claim that an earlier installation left under another name.
*/}}
{{- define "alovoice-gateway.validateData" -}}
{{- $claim := include "alovoice-gateway.claimName" . -}}
{{- if not (or (include "alovoice-gateway.isPostgres" .) (lookup "v1" "PersistentVolumeClaim" .Release.Namespace $claim)) -}}
{{- $places := list -}}
{{- $live := include "alovoice-gateway.liveDeployment" . | fromJson -}}
{{- if $live -}}
{{- $places = append $places (include "alovoice-gateway.mountedClaim" $live | default "PostgreSQL") -}}
{{- end -}}
{{- range (lookup "v1" "PersistentVolumeClaim" .Release.Namespace "").items -}}
{{- if include "alovoice-gateway.isOwn" (dict "root" $ "object" .) -}}{{- $places = append $places .metadata.name -}}{{- end -}}
{{- end -}}
{{- if and $places (not (has $claim $places)) -}}
{{- fail (printf "\n\nThe release has its data in %s, and would start with a new, empty volume, %s. Restore `database` and the names, or set database.sqlite.existingClaim to a claim that exists." (uniq $places | join ", ") $claim) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether this chart created an object for this release, under any name, of {root, object}. */}}
{{- define "alovoice-gateway.isOwn" -}}
{{- $metadata := .object.metadata -}}
{{- $owner := get ($metadata.annotations | default dict) "meta.helm.sh/release-name" | toString -}}
{{- $chart := get ($metadata.labels | default dict) "helm.sh/chart" | toString -}}
{{- if and (eq $owner .root.Release.Name) (regexMatch (printf "^%s-[0-9]" (regexQuoteMeta .root.Chart.Name)) $chart) (not $metadata.deletionTimestamp) -}}true{{- end -}}
{{- end -}}
