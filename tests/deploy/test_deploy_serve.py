"""What is written in `deploy/` for ``amble serve`` starts it: every option exists, and probes ask what is answered."""

from __future__ import annotations

import http.client
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Option

from amble.cli.serving import serving_options
from amble.core.quantity import parse_time_s
from amble.services.serve.front import Doors
from tests.services.serve.house import house

DEPLOY = Path(__file__).parents[2] / "deploy"


def options() -> set[str]:
    decorated: Any = serving_options(lambda *_, **__: None)
    return {name for each in decorated.__click_params__ if isinstance(each, Option) for name in each.opts}


def container() -> dict[str, Any]:
    deployment, _ = yaml.safe_load_all((DEPLOY / "serve.yaml").read_text())
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    found["grace_s"] = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    return dict(found)


@pytest.mark.parametrize("name", ["serve.yaml", "amble-serve.service"])
def test_every_option_that_is_named_exists(name: str) -> None:
    found = set(re.findall(r"--[a-z][a-z-]+", (DEPLOY / name).read_text()))
    assert found
    assert found <= options()


def test_probes_ask_the_port_of_health_for_what_it_answers() -> None:
    found = container()
    ports = {each["name"]: each["containerPort"] for each in found["ports"]}
    assert ports["watch"] == Doors().metrics_port
    assert (ports["https"], ports["grpc"]) == (Doors().http_port, Doors().grpc_port)
    with house("plain", doors=Doors(http_port=0, grpc_port=None, metrics_port=0)) as running:
        assert running.addresses.metrics is not None
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = found[kind]["httpGet"]
            assert asked["port"] == "watch"
            port = int(re.findall(r":(\d+)/", running.addresses.metrics)[0])
            assert _status(port, asked["path"]) == 200


def test_there_is_more_time_to_end_than_to_drain() -> None:
    found = container()
    (drain,) = [each.partition("=")[2] for each in found["args"] if each.startswith("--drain=")]
    assert found["grace_s"] > parse_time_s(drain) + 5
    unit = (DEPLOY / "amble-serve.service").read_text()
    assert int(re.findall(r"TimeoutStopSec=(\d+)", unit)[0]) > Doors().drain_s + 5


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()
