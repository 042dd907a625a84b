"""The fields of RayJob and RayService (ray.io/v1) that the chart uses; KubeRay drops all others.

Pod templates are left to the schemas of Kubernetes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Template = dict[str, Any]
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]


class Strict(BaseModel):
    """Knows its fields and no others, and takes no number for a text."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AuthOptions(Strict):
    """Who may speak to Ray: whoever has the token that KubeRay makes for each cluster."""

    mode: Literal["token"]


class AutoscalerOptions(Strict):
    """The container that asks Kubernetes for workers."""

    version: Literal["v2"]
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]
    idleTimeoutSeconds: Count
    securityContext: dict[str, Any]
    resources: dict[str, dict[str, str]]
    volumeMounts: list[dict[str, Any]]


class HeadGroup(Strict):
    """The head of a cluster; what `ray start` gets is text."""

    rayStartParams: dict[str, str]
    template: Template


class WorkerGroup(HeadGroup):
    """Workers of one kind."""

    groupName: Name
    replicas: Count
    minReplicas: Count
    maxReplicas: Annotated[int, Field(ge=1)]


class SecretValue(Strict):
    """A value that a Secret has, and no manifest."""

    valueFrom: dict[Literal["secretKeyRef"], dict[Literal["name", "key"], str]]


class GcsFaultTolerance(Strict):
    """Where a cluster's state outlives its head."""

    redisAddress: str
    redisPassword: SecretValue | None = None


class Cluster(Strict):
    """A Ray cluster."""

    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions | None = None
    gcsFaultToleranceOptions: GcsFaultTolerance | None = None
    headGroupSpec: HeadGroup
    workerGroupSpecs: Annotated[list[WorkerGroup], Field(min_length=1)]


class RayJob(Strict):
    """A command on a cluster of its own, made again where it failed."""

    entrypoint: str
    backoffLimit: Count
    activeDeadlineSeconds: Annotated[int, Field(ge=1)] | None = None
    shutdownAfterJobFinishes: Literal[True]
    ttlSecondsAfterFinished: Count
    submissionMode: Literal["K8sJobMode"]
    submitterPodTemplate: Template
    rayClusterSpec: Cluster


class UpgradeStrategy(Strict):
    """How a service gets another cluster: the old one serves until the new one can."""

    type: Literal["NewCluster"]


class RayService(Strict):
    """Ray Serve on a cluster of its own."""

    upgradeStrategy: UpgradeStrategy
    rayClusterDeletionDelaySeconds: Count
    excludeHeadPodFromServeSvc: Literal[True]
    serveConfigV2: str
    rayClusterConfig: Cluster


KINDS: dict[str, type[Strict]] = {"RayJob": RayJob, "RayService": RayService}
