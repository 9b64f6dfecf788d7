{{- define "pushfleet.name" -}}
{{- if contains "pushfleet" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-pushfleet" (.Release.Name | trunc 40) }}{{ end }}
{{- end }}

{{- define "pushfleet.selector" -}}
app.kubernetes.io/name: pushfleet
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "pushfleet.labels" -}}
{{ include "pushfleet.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* What the chart decides goes over what the values say. */}}
{{- define "pushfleet.config" -}}
{{- $own := dict
  "worker" (dict "listen" ":9090" "drain_timeout" (printf "%ds" (int .Values.worker.drainTimeoutSeconds)))
  "api" (dict "listen" ":8080" "drain_timeout" (printf "%ds" (int .Values.api.drainTimeoutSeconds)))
  "log" (dict "format" .Values.logFormat) }}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) }}
{{- end }}

{{- define "pushfleet.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- /* A pod: root, component, values, port. */}}
{{- define "pushfleet.pod" -}}
metadata:
  labels:
    {{- include "pushfleet.labels" . | nindent 4 }}
  annotations:
    # So that a change of the configuration is rolled out. Apps change while a pod runs.
    checksum/config: {{ omit (include "pushfleet.config" .root | fromYaml) "apps" | toYaml | sha256sum }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "pushfleet.name" .root }}
  automountServiceAccountToken: false
  # Variables of Services named pushfleet would look like settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add (int .values.drainTimeoutSeconds) 10 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: pushfleet
      image: {{ include "pushfleet.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [{{ .component }}]
      env:
        - {name: PUSHFLEET_CONFIG, value: /etc/pushfleet/config/pushfleet.yaml}
        {{- with .root.Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: http, containerPort: {{ .port }}}
      # A slow start may take as long as NATS and Redis do.
      startupProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: http}
        periodSeconds: 10
        timeoutSeconds: 3
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 5
        timeoutSeconds: 3
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/pushfleet/config, readOnly: true}
        {{- if .root.Values.existingSecret }}
        - {name: secrets, mountPath: /etc/pushfleet/secrets, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "pushfleet.name" .root }}}
    {{- with .root.Values.existingSecret }}
    - name: secrets
      secret: {secretName: {{ . }}, defaultMode: 0440}
    {{- end }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "pushfleet.selector" $ | nindent 10 }}
    {{- end }}
  {{- with .values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* A Deployment with its disruption budget and autoscaler: the same dict, and scaled. */}}
{{- define "pushfleet.deployment" -}}
{{- $name := printf "%s-%s" (include "pushfleet.name" .root) .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "pushfleet.labels" . | nindent 4 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .values.replicas }}
  {{- end }}
  # One more before one less: the rest could not hold what a worker holds.
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "pushfleet.selector" . | nindent 6 }}
  template:
    {{- include "pushfleet.pod" . | nindent 4 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "pushfleet.labels" . | nindent 4 }}
spec:
  {{- toYaml .values.podDisruptionBudget | nindent 2 }}
  selector:
    matchLabels:
      {{- include "pushfleet.selector" . | nindent 6 }}
{{- if .values.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "pushfleet.labels" . | nindent 4 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ $name }}}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: Utilization, averageUtilization: {{ .values.autoscaling.targetCPUUtilizationPercentage }}}
  behavior:
    # Each stop gives up connections to APNs, which are to be few and long-lived.
    scaleDown: {stabilizationWindowSeconds: 600}
{{- end }}
{{- end }}
