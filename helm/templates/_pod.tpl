{{/* Shared by the gateway's pods, the pods of `helm test` and jobs. */}}

{{- define "alovoice-gateway.volumeMounts" -}}
- name: settings
  mountPath: /etc/alovoice-gateway
  readOnly: true
{{- if include "alovoice-gateway.fileSources" . }}
# A folder instead of single files (subPath), because Kubernetes updates only folders when a Secret is rotated.
- name: files
  mountPath: {{ include "alovoice-gateway.filesPath" . }}
  readOnly: true
{{- end }}
- name: data
  mountPath: /data
{{- if .Values.secretsStoreCsi.secretProviderClass }}
- name: secrets-store
  mountPath: {{ .Values.secretsStoreCsi.mountPath }}
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* All volumes except `data`. */}}
{{- define "alovoice-gateway.volumes" -}}
- name: settings
  configMap:
    name: {{ include "alovoice-gateway.fullname" . }}
{{- with include "alovoice-gateway.fileSources" . }}
- name: files
  projected:
    # Readable for fsGroup.
    defaultMode: 0440
    sources:
      {{- . | trim | nindent 6 }}
{{- end }}
{{- if .Values.secretsStoreCsi.secretProviderClass }}
- name: secrets-store
  csi:
    driver: secrets-store.csi.k8s.io
    readOnly: true
    volumeAttributes:
      secretProviderClass: {{ .Values.secretsStoreCsi.secretProviderClass }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "alovoice-gateway.env" -}}
- name: GATEWAY_CONFIG
  value: /etc/alovoice-gateway/gateway.toml
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Settings of every pod. */}}
{{- define "alovoice-gateway.podBasics" -}}
serviceAccountName: {{ include "alovoice-gateway.serviceAccountName" . }}
automountServiceAccountToken: false
# Otherwise Kubernetes sets variables for each Service of the namespace, and the gateway would read those of a Service named "gateway" as settings.
enableServiceLinks: false
{{- if eq (toString .Values.hostUsers) "false" }}
hostUsers: false
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with include "alovoice-gateway.imagePullSecrets" . | fromJsonArray }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "hostAliases" "dnsPolicy" "dnsConfig" }}
{{- with get $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Affinity and spread of the gateway's pods, as {affinity, topologySpreadConstraints}. A term without labelSelector selects no pod and would have no effect, so
such terms select the gateway's pods.
*/}}
{{- define "alovoice-gateway.placement" -}}
{{- $selector := dict "matchLabels" (include "alovoice-gateway.servingLabels" . | fromYaml) -}}
{{- $placement := dict -}}
{{- with .Values.affinity -}}
{{- $affinity := deepCopy . -}}
{{- range $kind := list "podAffinity" "podAntiAffinity" -}}
{{- $rules := get $affinity $kind | default dict -}}
{{- $terms := $rules.requiredDuringSchedulingIgnoredDuringExecution | default list -}}
{{- range $rules.preferredDuringSchedulingIgnoredDuringExecution -}}{{- $terms = append $terms .podAffinityTerm -}}{{- end -}}
{{- range $terms -}}{{- if not (hasKey . "labelSelector") -}}{{- $_ := set . "labelSelector" $selector -}}{{- end -}}{{- end -}}
{{- end -}}
{{- $_ := set $placement "affinity" $affinity -}}
{{- end -}}
{{- $constraints := list -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $constraint := deepCopy . -}}
{{- if not (hasKey . "labelSelector") -}}{{- $_ := set $constraint "labelSelector" $selector -}}{{- end -}}
{{- $constraints = append $constraints $constraint -}}
{{- end -}}
{{- if and (not $constraints) (include "alovoice-gateway.isPostgres" .) -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" -}}
{{- /* If only one node is left, all pods may run on it. Pods of the old version do not count. */ -}}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" $selector "matchLabelKeys" (list "pod-template-hash")) -}}
{{- end -}}
{{- end -}}
{{- with $constraints -}}{{- $_ := set $placement "topologySpreadConstraints" . -}}{{- end -}}
{{- with $placement -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/*
A pod of `helm test`, of {root, name, spec}. Its name has a hash of the spec, because the spec of a pod is immutable: with `helm template | kubectl apply` a
changed test is a new pod.
*/}}
{{- define "alovoice-gateway.testPod" -}}
apiVersion: v1
kind: Pod
metadata:
  {{- $own := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" }}
  {{- $_ := set $own "checkov.io/skip1" "CKV_K8S_8=It runs to its end" }}
  {{- $_ := set $own "checkov.io/skip2" "CKV_K8S_9=A test pod receives no requests" }}
  {{- $suffix := printf "-test-%s-%s" .name (sha256sum .spec | trunc 8) }}
  {{- include "alovoice-gateway.metadata" (dict "root" .root "suffix" $suffix "component" "test" "own" $own) | nindent 2 }}
spec:
  {{- .spec | nindent 2 }}
{{- end -}}

{{/*
The spec of a Job, of {root, name, job}: the gateway's image, settings, secrets and volume. The volume of SQLite is usually mountable on one node only, so the
job runs beside the gateway.
*/}}
{{- define "alovoice-gateway.jobSpec" -}}
{{- $root := .root -}}
{{- $job := .job -}}
{{- $image := include "alovoice-gateway.image" $root -}}
{{- with $job.image -}}
{{- $image = include "alovoice-gateway.mirrored" (dict "root" $root "image" .) -}}
{{- end -}}
{{- $isOwnFile := and (not (include "alovoice-gateway.isPostgres" $root)) (not $job.claim) -}}
backoffLimit: {{ hasKey $job "backoffLimit" | ternary $job.backoffLimit 6 }}
{{- with $job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ . }}
{{- end }}
template:
  metadata:
    labels:
      {{- include "alovoice-gateway.labels" (dict "root" $root "component" "job" "isPod" true) | nindent 6 }}
  spec:
    {{- include "alovoice-gateway.podBasics" $root | nindent 4 }}
    restartPolicy: Never
    {{- if and $isOwnFile (ne (include "alovoice-gateway.replicas" $root) "0") }}
    affinity:
      podAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          - topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "alovoice-gateway.servingLabels" $root | nindent 16 }}
    {{- end }}
    containers:
      - name: {{ .name }}
        image: {{ $image | quote }}
        imagePullPolicy: {{ $root.Values.image.pullPolicy }}
        {{- with $job.command }}
        command:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- with $job.args }}
        args:
          {{- range . }}
          - {{ tpl . $root | quote }}
          {{- end }}
        {{- end }}
        env:
          {{- include "alovoice-gateway.env" $root | nindent 10 }}
          {{- with $job.env }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
        {{- with $root.Values.extraEnvFrom }}
        envFrom:
          {{- toYaml . | nindent 10 }}
        {{- end }}
        resources:
          {{- toYaml ($job.resources | default $root.Values.resources) | nindent 10 }}
        securityContext:
          {{- toYaml $root.Values.securityContext | nindent 10 }}
        terminationMessagePolicy: FallbackToLogsOnError
        volumeMounts:
          {{- include "alovoice-gateway.volumeMounts" $root | nindent 10 }}
          {{- with $job.volumeMounts }}
          {{- toYaml . | nindent 10 }}
          {{- end }}
    volumes:
      {{- include "alovoice-gateway.volumes" $root | nindent 6 }}
      - name: data
        {{- if $isOwnFile }}
        persistentVolumeClaim:
          claimName: {{ include "alovoice-gateway.claimName" $root }}
        {{- else if $job.claim }}
        persistentVolumeClaim:
          claimName: {{ $job.claim }}
        {{- else }}
        emptyDir:
          sizeLimit: 64Mi
        {{- end }}
      {{- with $job.volumes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
{{- end -}}
