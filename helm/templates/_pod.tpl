{{/* Shared by the gateway's pods and the pods of `helm test`. */}}

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
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
