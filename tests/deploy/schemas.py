"""The part of Kubernetes' and KubeRay's schemas that our manifests use: which fields there are, and of which kind.

Written from the reference of the Kubernetes API (v1, apps/v1) and of the KubeRay API (ray.io/v1, as its repository
documents it): structural only, and stricter than the real ones in that it knows no fields that we do not need. What a
cluster itself admits counts in the end: `kubectl apply --dry-run=server`.
"""

import re
from typing import Any

QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi)?")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class Map:
    """Any keys, values of one kind."""

    def __init__(self, of: Any) -> None:
        self.of = of


def wrong(value: Any, schema: Any, where: str = "") -> list[str]:
    """Return what does not fit, with where it is; nothing where all does.

    A schema is a type, a set of allowed values, a pattern, a list of one schema, a `Map`, or a mapping of fields, those
    with ``!`` at the end required.
    """
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        fields = {name.rstrip("!"): of for name, of in schema.items()}
        missing = [name for name in schema if name.endswith("!") and name[:-1] not in value]
        found = [f"{where}.{name}: no such field" for name in value if name not in fields]
        found += [f"{where}.{name[:-1]}: is missing" for name in missing]
        return found + [e for n, v in value.items() if n in fields for e in wrong(v, fields[n], f"{where}.{n}")]
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [e for at, each in enumerate(value) for e in wrong(each, schema[0], f"{where}[{at}]")]
    if isinstance(schema, Map):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        return [e for name, each in value.items() for e in wrong(each, schema.of, f"{where}.{name}")]
    if isinstance(schema, set):
        return [] if value in schema else [f"{where}: {value!r} is none of {sorted(schema)}"]
    if isinstance(schema, re.Pattern):
        return [] if schema.fullmatch(str(value)) else [f"{where}: {value!r} is not like {schema.pattern}"]
    right = isinstance(value, schema) and (schema is bool or not isinstance(value, bool))
    return [] if right else [f"{where}: {value!r} is no {schema.__name__}"]


META = {"name": NAME, "namespace": NAME, "labels": Map(str), "annotations": Map(str)}
RIGHTS = {
    "runAsUser": int,
    "runAsGroup": int,
    "runAsNonRoot": bool,
    "allowPrivilegeEscalation": bool,
    "readOnlyRootFilesystem": bool,
    "privileged": bool,
    "capabilities": {"add": [str], "drop": [str]},
    "seccompProfile": {"type!": {"RuntimeDefault", "Localhost", "Unconfined"}, "localhostProfile": str},
}
CONTAINER = {
    "name!": NAME,
    "image!": str,
    "command": [str],
    "args": [str],
    "env": [{"name!": str, "value": str}],
    "ports": [{"name": NAME, "containerPort!": int, "protocol": {"TCP", "UDP"}}],
    "resources": {"requests": Map(QUANTITY), "limits": Map(QUANTITY)},
    "securityContext": RIGHTS,
    "volumeMounts": [{"name!": NAME, "mountPath!": str, "readOnly": bool}],
}
VOLUME = {
    "name!": NAME,
    "hostPath": {"path!": str, "type": {"", "Directory", "DirectoryOrCreate", "Socket"}},
    "emptyDir": {"medium": {"", "Memory"}, "sizeLimit": QUANTITY},
    "configMap": {"name!": NAME},
    "secret": {"secretName!": NAME},
    "persistentVolumeClaim": {"claimName!": NAME, "readOnly": bool},
}
TOLERATION = {"key": str, "operator": {"Exists", "Equal"}, "value": str, "effect": {"NoSchedule", "NoExecute"}}
POD = {
    "metadata": META,
    "spec!": {
        "automountServiceAccountToken": bool,
        "hostNetwork": bool,
        "hostPID": bool,
        "terminationGracePeriodSeconds": int,
        "nodeSelector": Map(str),
        "tolerations": [TOLERATION],
        "securityContext": {**{k: v for k, v in RIGHTS.items() if k.startswith(("run", "secc"))}, "fsGroup": int},
        "initContainers": [CONTAINER],
        "containers!": [CONTAINER],
        "volumes": [VOLUME],
    },
}
DAEMON_SET = {
    "apiVersion!": {"apps/v1"},
    "kind!": {"DaemonSet"},
    "metadata!": META,
    "spec!": {
        "selector!": {"matchLabels": Map(str)},
        "updateStrategy": {"type": {"RollingUpdate", "OnDelete"}, "rollingUpdate": {"maxUnavailable": int}},
        "template!": POD,
    },
}
CONFIG_MAP = {"apiVersion!": {"v1"}, "kind!": {"ConfigMap"}, "metadata!": META, "data": Map(str)}
RAY_SERVICE = {
    "apiVersion!": {"ray.io/v1"},
    "kind!": {"RayService"},
    "metadata!": META,
    "spec!": {
        "serveConfigV2": str,
        "excludeHeadPodFromServeSvc": bool,
        "upgradeStrategy": {"type": {"NewCluster", "None"}},
        "rayClusterConfig": {
            "rayVersion": str,
            "enableInTreeAutoscaling": bool,
            "headGroupSpec!": {
                "serviceType": {"ClusterIP", "NodePort", "LoadBalancer"},
                "rayStartParams": Map(str),
                "template!": POD,
            },
            "workerGroupSpecs": [
                {
                    "groupName!": str,
                    "replicas": int,
                    "minReplicas": int,
                    "maxReplicas": int,
                    "numOfHosts": int,
                    "idleTimeoutSeconds": int,
                    "rayStartParams": Map(str),
                    "template!": POD,
                }
            ],
        },
    },
}
