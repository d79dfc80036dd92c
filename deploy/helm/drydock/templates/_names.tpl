{{/* The roles that run, as a list in JSON: one of both kinds, or one of each. */}}
{{- define "drydock.roles" -}}
{{- if eq .Values.roles "split" }}["ingest","worker"]{{ else }}["all"]{{ end }}
{{- end }}

{{/* The name of what belongs to one role: (list . role). */}}
{{- define "drydock.name" -}}
{{- $role := index . 1 -}}
{{- with index . 0 -}}
{{ .Release.Name }}{{ if ne $role "all" }}-{{ $role }}{{ end }}
{{- end }}
{{- end }}

{{/* What selects every replica. */}}
{{- define "drydock.selector" -}}
app.kubernetes.io/name: drydock
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "drydock.labels" -}}
{{ include "drydock.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "drydock.env" -}}
{{- range $variable, $ref := .Values.secrets }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ $ref.name }}, key: {{ $ref.key }}}}
{{- end }}
{{- end }}

{{/* Of every container: nobody's root, nothing to write to but /data. */}}
{{- define "drydock.secure" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}
