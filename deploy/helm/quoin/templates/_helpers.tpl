{{- define "quoin.name" -}}
{{- if contains "quoin" .Release.Name }}{{ .Release.Name | trunc 40 }}{{ else }}{{ printf "%s-quoin" .Release.Name | trunc 40 }}{{ end }}
{{- end }}

{{- define "quoin.selector" -}}
app.kubernetes.io/name: quoin
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "quoin.labels" -}}
{{ include "quoin.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "quoin.image" -}}
{{- with .root.Values.image -}}
{{ if .registry }}{{ .registry }}/{{ end }}{{ .prefix }}{{ $.role }}:{{ .tag | default $.root.Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "quoin.scheme" -}}
{{ if eq .Values.tls.mode "none" }}http{{ else }}https{{ end }}
{{- end }}

{{- define "quoin.memberDomain" -}}
{{ include "quoin.name" . }}-member.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* Peer URLs of all members, with their names for --initial-cluster when .named. */}}
{{- define "quoin.memberUrls" -}}
{{- $name := include "quoin.name" .root }}{{ $domain := include "quoin.memberDomain" .root }}{{ $scheme := include "quoin.scheme" .root }}
{{- range $i := until (int .root.Values.members.replicas) }}
{{- if $i }},{{ end }}{{ if $.named }}{{ $name }}-member-{{ $i }}={{ end }}{{ $scheme }}://{{ $name }}-member-{{ $i }}.{{ $domain }}:2380
{{- end }}
{{- end }}

{{- define "quoin.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "quoin.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* livez: what a restart would help; readyz: what takes a pod out of its service. A start may wait for the others. */}}
{{- define "quoin.probes" -}}
startupProbe:
  httpGet: { path: /livez, port: metrics }
  periodSeconds: 2
  failureThreshold: 150
livenessProbe:
  httpGet: { path: /livez, port: metrics }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: metrics }
  periodSeconds: 3
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{- define "quoin.secret" -}}
{{- if eq .root.Values.tls.mode "secrets" }}{{ index .root.Values.tls.secrets .of }}{{ else }}{{ include "quoin.name" .root }}-{{ .of }}-tls{{ end }}
{{- end }}

{{/* Towards members: what a gateway or the backup worker shows, and whom it believes. */}}
{{- define "quoin.dialArgs" -}}
{{- if ne .Values.tls.mode "none" }}
- --peer-cert-file=/etc/quoin/peer/tls.crt
- --peer-key-file=/etc/quoin/peer/tls.key
- --peer-trusted-ca-file=/etc/quoin/peer/ca.crt
{{- end }}
{{- end }}
