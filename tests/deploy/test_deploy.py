"""The files under deploy/: known to their own tools where these are here, and no more rights than are needed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from amble.cli import main

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = (DEPLOY / "amble-govern.service").read_text()
MANIFEST = yaml.safe_load((DEPLOY / "daemonset.yaml").read_text())
POD = MANIFEST["spec"]["template"]["spec"]
OPTIONS = {option for each in main.commands["govern"].params for option in each.opts}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_accepts_the_unit(tmp_path):
    path = tmp_path / "amble-govern.service"
    path.write_text(UNIT.replace("/opt/amble/bin/amble", "/bin/true"))
    found = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_the_unit_puts_clocks_back_after_whatever_ended_it():
    assert re.search(r"^ExecStopPost=\S+ restore$", UNIT, re.MULTILINE)
    assert "NoNewPrivileges=yes" in UNIT


def test_the_unit_keeps_an_objective_one_word():
    """systemd splits unquoted variables at blanks, and objectives have blanks."""
    line = re.search(r"^ExecStart=/bin/sh -c '(.*)'$", UNIT, re.MULTILINE).group(1)
    script = line.replace("exec /opt/amble/bin/amble govern", "printf '[%s]'").replace("$$", "$")
    arguments = """http://h/metrics --slo "ttft p99 < 500ms" -o /a"""
    found = subprocess.run(
        ["/bin/sh", "-c", script], env={"AMBLE_GOVERN_ARGS": arguments}, capture_output=True, text=True
    )
    assert found.stdout == "[http://h/metrics][--slo][ttft p99 < 500ms][-o][/a]"


def test_the_manifest_is_a_daemon_set_whose_selector_selects_it():
    assert (MANIFEST["apiVersion"], MANIFEST["kind"]) == ("apps/v1", "DaemonSet")
    labels = MANIFEST["spec"]["template"]["metadata"]["labels"].items()
    assert MANIFEST["spec"]["selector"]["matchLabels"].items() <= labels


def test_the_pod_has_one_capability_and_no_token():
    assert POD["automountServiceAccountToken"] is False
    for each in (*POD["initContainers"], *POD["containers"]):
        rights = each["securityContext"]
        assert rights["capabilities"] == {"drop": ["ALL"], "add": ["SYS_ADMIN"]}
        assert rights["readOnlyRootFilesystem"]
        assert not rights["allowPrivilegeEscalation"]
        assert "privileged" not in rights
        mounted = {mount["name"] for mount in each["volumeMounts"]}
        assert mounted == {volume["name"] for volume in POD["volumes"]}


def test_the_manifest_uses_options_that_exist():
    used = {word for word in POD["containers"][0]["args"] if word.startswith("--")}
    assert used
    assert used <= OPTIONS


def test_the_image_starts_the_verb():
    text = (DEPLOY / "Containerfile").read_text()
    assert 'ENTRYPOINT ["amble", "govern"]' in text
    copied = re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE)
    assert all((DEPLOY.parent / name).exists() for line in copied for name in line.split())
