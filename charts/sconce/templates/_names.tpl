{{/* The name of everything that is installed. It does not follow the release: there is one agent in a cluster, and
its webhook configurations have names that its role holds. */}}
{{- define "sconce.labels" -}}
app.kubernetes.io/name: sconce
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sconce
{{- end }}
{{- define "sconce.selector" -}}
app.kubernetes.io/name: sconce
app.kubernetes.io/component: agent
{{- end }}
{{- define "sconce.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}
