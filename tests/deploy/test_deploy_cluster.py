"""The manifests of a cluster: of the fields that there are, and no more rights than are needed."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from amble.cli import main
from amble.services.guard.rules import read_rules
from tests.deploy.schemas import CONFIG_MAP, DAEMON_SET, RAY_SERVICE, wrong

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ALLOWED, GUARD = yaml.safe_load_all((DEPLOY / "guard-daemonset.yaml").read_text())
SERVICE = yaml.safe_load((DEPLOY / "rayservice.yaml").read_text())
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
HEAD = CLUSTER["headGroupSpec"]["template"]["spec"]
WORKER = CLUSTER["workerGroupSpecs"][0]["template"]["spec"]
GUARDING = GUARD["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    ("manifest", "schema"),
    [
        (ALLOWED, CONFIG_MAP),
        (GUARD, DAEMON_SET),
        (yaml.safe_load((DEPLOY / "daemonset.yaml").read_text()), DAEMON_SET),
        (SERVICE, RAY_SERVICE),
    ],
    ids=["allow-list", "guard", "govern", "rayservice"],
)
def test_a_manifest_fits_its_schema(manifest, schema):
    assert wrong(manifest, schema) == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda spec: spec.update(rayClusterSpec={}), r"\.spec\.rayClusterSpec: no such field"),
        (lambda spec: spec["rayClusterConfig"].pop("headGroupSpec"), r"headGroupSpec: is missing"),
        (lambda spec: spec["rayClusterConfig"]["workerGroupSpecs"][0].update(replicas="2"), r"'2' is no int"),
        (
            lambda spec: spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
            "0 is no str",
        ),
        (lambda spec: spec["upgradeStrategy"].update(type="Rolling"), r"'Rolling' is none of"),
    ],
)
def test_a_manifest_that_is_wrong_does_not_fit(spoil, told):
    spoilt = copy.deepcopy(SERVICE)
    spoil(spoilt["spec"])
    found = wrong(spoilt, RAY_SERVICE)
    assert len(found) == 1
    assert re.search(told, found[0])


@pytest.mark.parametrize("pod", [HEAD, WORKER], ids=["head", "worker"])
def test_what_answers_clients_has_no_rights(pod):
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"]
    assert not {"hostNetwork", "hostPID"} & pod.keys()
    for each in pod["containers"]:
        rights = each["securityContext"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["readOnlyRootFilesystem"]
        assert not rights["allowPrivilegeEscalation"]
        assert "privileged" not in rights
        assert {mount["name"] for mount in each["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    hosts = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]
    assert hosts == ([] if pod is HEAD else ["/run/amble"])


def test_the_guard_has_one_capability_and_no_token():
    assert GUARDING["automountServiceAccountToken"] is False
    assert "hostNetwork" not in GUARDING
    (each,) = GUARDING["containers"]
    rights = each["securityContext"]
    assert rights["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
    assert rights["readOnlyRootFilesystem"]
    assert not rights["allowPrivilegeEscalation"]
    assert {mount["name"] for mount in each["volumeMounts"]} == {volume["name"] for volume in GUARDING["volumes"]}


def test_the_guard_lends_to_the_user_who_serves_through_the_socket_that_is_mounted(tmp_path):
    (each,) = GUARDING["containers"]
    options = {option for one in main.commands["guard"].params for option in one.opts}
    assert {word for word in each["args"] if word.startswith("--")} <= options
    given = dict(zip(each["args"][::2], each["args"][1::2], strict=True))
    mounted = {mount["name"]: mount["mountPath"] for mount in each["volumeMounts"]}
    assert given["--socket"] == f"{mounted['socket']}/guard.sock"
    assert given["--state"].startswith(f"{mounted['state']}/")
    assert given["--allow"] == f"{mounted['allowed']}/guard.yaml"
    theirs = {mount["name"]: mount["mountPath"] for mount in WORKER["containers"][0]["volumeMounts"]}
    assert theirs["guard"] == mounted["socket"]
    path = tmp_path / "guard.yaml"
    path.write_text(ALLOWED["data"]["guard.yaml"])
    users = yaml.safe_load(path.read_text())["allow"][0]["users"]
    assert users == [WORKER["securityContext"]["runAsUser"]]
    assert read_rules(path).of(users[0], "nvml:0") is not None


def test_the_version_of_ray_is_the_one_in_the_lock():
    locked = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert locked is not None
    assert CLUSTER["rayVersion"] == locked[1]


def test_the_application_is_one_that_ray_serve_reads():
    config = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    (application,) = config["applications"]
    assert application["import_path"].startswith("amble.services.cluster.")
    schema = pytest.importorskip("ray.serve.schema")
    assert schema.ServeDeploySchema.model_validate(config).applications[0].route_prefix == "/"
