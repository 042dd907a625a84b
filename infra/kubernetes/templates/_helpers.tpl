{{- define "affectune.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 30 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 30 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "affectune.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* By these labels services, disruption budgets and network policies find pods. KubeRay's own
services find their pods by app.kubernetes.io/name, so pods keep the value that it gives. */}}
{{- define "affectune.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: affectune
{{- end }}

{{- define "affectune.labels" -}}
{{ include "affectune.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Of every pod. */}}
{{- define "affectune.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .uid | default 10001 }}
  runAsGroup: {{ .uid | default 10001 }}
  fsGroup: {{ .uid | default 10001 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Of every container. */}}
{{- define "affectune.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* What a container gets: as much as it asks for, so that no neighbour takes it away. */}}
{{- define "affectune.resources" -}}
resources:
  requests:
    cpu: {{ .resources.cpu | quote }}
    memory: {{ .resources.memory }}
    ephemeral-storage: {{ .scratch }}
    {{- if .gpus }}
    nvidia.com/gpu: {{ .gpus }}
    {{- end }}
  limits:
    cpu: {{ .resources.cpu | quote }}
    memory: {{ .resources.memory }}
    {{- if .gpus }}
    nvidia.com/gpu: {{ .gpus }}
    {{- end }}
{{- end }}

{{- define "affectune.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "affectune.trackingUri" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "affectune.fullname" . }}-mlflow:5000
{{- else -}}
{{ required "Set trackingUri to an MLflow server, or mlflow.enabled=true" .Values.trackingUri }}
{{- end }}
{{- end }}

{{/* Where data lies that outlives pods: in the object store, else on the shared volume. */}}
{{- define "affectune.kept" -}}
{{ .Values.objectStore.url | default "/srv/affectune" | trimSuffix "/" }}
{{- end }}

{{- define "affectune.objectStoreEnv" -}}
{{- if .Values.objectStore.url }}
- {name: AWS_REGION, value: {{ .Values.objectStore.region | quote }}}
{{- with .Values.objectStore.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
- {name: MLFLOW_S3_ENDPOINT_URL, value: {{ . | quote }}}
{{- if hasPrefix "http://" . }}
- {name: AWS_ALLOW_HTTP, value: "true"}
{{- end }}
{{- end }}
{{- with .Values.objectStore.existingSecret }}
{{- range $name := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.objectStore.existingSecret }}, key: {{ $name }}}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of every process of Ray. Its token comes from KubeRay, see authOptions. */}}
{{- define "affectune.rayEnv" -}}
- {name: OMP_NUM_THREADS, value: "1"}
- {name: OPENBLAS_NUM_THREADS, value: "1"}
- {name: MKL_NUM_THREADS, value: "1"}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: RAY_worker_niceness, value: "0"}
- {name: MLFLOW_DISABLE_TELEMETRY, value: "true"}
- {name: MLFLOW_TRACKING_URI, value: {{ include "affectune.trackingUri" . | quote }}}
{{- end }}

{{/* What the image writes to: its home, with caches, and temporary files. The rest is read-only. */}}
{{- define "affectune.mounts" -}}
- {name: home, mountPath: /data}
- {name: scratch, mountPath: /tmp}
{{- end }}

{{- define "affectune.volumes" -}}
- name: home
  emptyDir: {sizeLimit: 10Gi}
- name: scratch
  emptyDir: {sizeLimit: {{ .scratch }}}
{{- end }}

{{- define "affectune.rayMounts" -}}
{{ include "affectune.mounts" . }}
- {name: shared-memory, mountPath: /dev/shm}
{{- end }}

{{/* Ray's object store takes 30% of the memory, and lies in shared memory. */}}
{{- define "affectune.rayVolumes" -}}
{{ include "affectune.volumes" . }}
- name: shared-memory
  emptyDir: {medium: Memory, sizeLimit: {{ .resources.memory }}}
{{- end }}

{{/* The raylet's health, which needs no token. Ray's start takes up to a minute on a busy node. */}}
{{- define "affectune.rayletProbes" -}}
startupProbe:
  httpGet: {path: /api/local_raylet_healthz, port: 52365}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /api/local_raylet_healthz, port: 52365}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* Only the autoscaler, a container that KubeRay adds to the head, may ask the Kubernetes API. */}}
{{- define "affectune.autoscaler" -}}
authOptions: {mode: token}
{{- if .autoscaling }}
enableInTreeAutoscaling: true
autoscalerOptions:
  version: v2
  upscalingMode: Default
  idleTimeoutSeconds: {{ .idleSeconds | int64 }}
  {{- include "affectune.container" . | nindent 2 }}
  resources:
    requests: {cpu: 200m, memory: 512Mi}
    limits: {cpu: "1", memory: 1Gi}
  volumeMounts:
    {{- include "affectune.mounts" . | nindent 4 }}
    - name: kubernetes-api
      mountPath: /var/run/secrets/kubernetes.io/serviceaccount
      readOnly: true
{{- else }}
enableInTreeAutoscaling: false
{{- end }}
{{- end }}

{{- define "affectune.autoscalerVolume" -}}
- name: kubernetes-api
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
      - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
{{- end }}

{{- define "affectune.headPorts" -}}
- {name: gcs, containerPort: 6379}
- {name: dashboard, containerPort: 8265}
- {name: metrics, containerPort: 8080}
{{- end }}

{{- define "affectune.tokenVolume" -}}
{{- with .Values.endpoint.tokenSecret }}
- name: token
  secret: {secretName: {{ . }}, defaultMode: 0440, items: [{key: token, path: token}]}
{{- end }}
{{- end }}

{{/* A setting as a variable has it; toString would write 33554432 as 3.3554432e+07. */}}
{{- define "affectune.envValue" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end }}
{{- end }}
