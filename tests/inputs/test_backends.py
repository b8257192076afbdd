"""Every URI goes through one table, and a package of somebody else's adds to it by its entry points alone."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import amble
from amble import inputs
from amble.core.address import Address
from amble.core.backend import Layers
from amble.core.errors import Refused
from amble.devices import lease
from amble.devices.facts import Found
from amble.inputs.backends import BACK_ENDS, back_end, back_ends
from tests.packages import installed

SOURCE = Path(amble.__file__).parent

TOY = '''
"""A device that somebody else adds: a simulated chip under a name of its own, that brings back what it is told."""

from dataclasses import replace
from pathlib import Path

from amble.core.backend import BackEnd, Description
from amble.devices import simulated


def _open(wanted):
    found = simulated.open("jetson-tx2", compute=wanted.runner.run, seed=int(wanted.address.options.get("seed", 0)))
    return replace(found, name=f"toy:{wanted.address.name}", calibration="uncalibrated")


def _put_back(values):
    for path, text in values:
        Path(path).write_text(text)


BACK_END = BackEnd(
    "toy",
    "toy:NAME",
    _open,
    options=("seed",),
    describe=lambda: (Description("toy:one", "uncalibrated", "clocks of a chip", "counter"),),
    put_back=_put_back,
    simulated=True,
)
NOT_ONE = 3
'''

STEADY = '''
"""A governor that somebody else adds: the first rung, always, and a note of who was made with what."""

import os
from pathlib import Path

from amble.stages.control.governors import Fixed


def governor(ladder, aim, budget):
    Path(os.environ["MADE"]).write_text(f"{ladder.graph} {aim.latency_s}")
    return Fixed("steady", ladder.rungs[0], 1)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = installed(tmp_path / "site", "toy", TOY, devices={"toy": "toy:BACK_END"})
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("toy", None)


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("host", ("host", "", {})),
        ("sim:jetson-tx2", ("sim", "jetson-tx2", {})),
        ("sim:a?seed=3&governor=b", ("sim", "a", {"seed": "3", "governor": "b"})),
        ("recorded:/a/b:c.csv", ("recorded", "/a/b:c.csv", {})),
    ],
)
def test_an_address_is_read_and_written_alike(uri: str, parts: tuple[str, str, dict[str, str]]) -> None:
    address = Address.parse(uri)
    assert (address.scheme, address.name, address.options) == parts
    assert str(address) == uri


def test_no_other_module_takes_uris_apart() -> None:
    schemes = "|".join(BACK_ENDS)
    apart = re.compile(
        rf"""startswith\(\(?["']({schemes}):|(scheme|kind) (==|in|!=) \(?["']({schemes})["']|"""
        rf"""partition\(["']:["']\)\[0\] (==|in|!=)|removeprefix\(["']({schemes}):"""
    )
    allowed = {"core/address.py", "core/timekeeping.py", "stages/plan/export.py"}
    found = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if apart.search(path.read_text()) and str(path.relative_to(SOURCE)) not in allowed
    ]
    assert found == []


def test_a_scheme_stands_in_the_table_under_its_own_name() -> None:
    assert all(scheme == each.scheme == Address.parse(each.example).scheme for scheme, each in BACK_ENDS.items())


def test_an_unknown_device_is_refused_with_what_can_be_written() -> None:
    with pytest.raises(Refused, match="unknown device 'fpga:0'; write sim:CHIP, recorded:TABLE, host, nvml:0"):
        amble.open("fpga:0")


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("sim:jetson-tx2?colour=red", "no option 'colour'; it knows governor, seed"),
        ("host?governor=schedutil", "no option 'governor'"),
        ("sim:jetson-tx2?seed=many", "'many' is no seed"),
        ("sim:jetson-tx2?seed", "not like seed=3"),
        ("nvml:0?colour=red", "no option 'colour'; it knows provider"),
    ],
)
def test_what_a_device_does_not_know_is_refused(uri: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        amble.open(uri)


def test_options_of_a_plan_s_device_are_no_options_of_a_server_s() -> None:
    with pytest.raises(Refused, match="no option 'governor' when it serves"):
        inputs.open_for_serving("sim:jetson-tx2?governor=schedutil")


def test_layers_are_timed_where_they_can_be() -> None:
    device = amble.open("sim:jetson-tx2")
    assert inputs.probe("sim:jetson-tx2", device, Layers()).device == "sim:jetson-tx2"
    with pytest.raises(Refused, match=r"layers cannot be timed on recorded:x; prune on host or sim:CHIP"):
        inputs.refuse_layers("recorded:x")
    with pytest.raises(Refused, match="layers in INT8 are timed on host only"):
        inputs.refuse_layers("sim:jetson-tx2", "int8")


def test_this_machine_is_timed_by_its_thread_and_others_by_themselves() -> None:
    device = amble.open("sim:jetson-tx2")
    assert inputs.timer("sim:jetson-tx2", device) == device.clock.now_s
    assert inputs.timer("host", device) is time.thread_time


def test_a_chip_is_compared_with_the_governors_it_ships_with() -> None:
    assert dict(inputs.governed("sim:jetson-tx2?seed=3")).popitem()[1].startswith("sim:jetson-tx2?seed=3&governor=")
    assert inputs.governed("host") == ()


@pytest.mark.usefixtures("toy")
def test_a_device_of_another_package_is_opened_described_and_measured() -> None:
    device = amble.open("toy:mine?seed=2")
    assert (device.name, device.calibration) == ("toy:mine", "uncalibrated")
    assert "toy:one" in [each.name for each in inputs.devices()]
    profile = amble.measure(amble.load("synthetic:2"), device, points=3, repeats=3)
    assert profile.where == device.where
    graph = amble.load("synthetic:2")
    plan = amble.plan(graph, amble.fit(profile), deadline="1s")
    assert plan.where.device == "toy:mine"
    assert amble.load("synthetic:2", device=plan.where.device).digest == plan.subject.digest


@pytest.mark.usefixtures("toy")
def test_what_a_device_of_another_package_cannot_do_is_refused_in_words() -> None:
    with pytest.raises(Refused, match="'toy:mine' cannot serve clients"):
        inputs.open_for_serving("toy:mine")
    with pytest.raises(Refused, match="no option 'speed'; it knows seed"):
        amble.open("toy:mine?speed=2")
    with pytest.raises(Refused, match="ssh:user@board/host or toy:NAME"):
        amble.open("fpga:0")


KILLED = """
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import amble
from amble.core.point import Clocks
from amble.devices import lease
from amble.devices.facts import Found

CLOCK = Path(sys.argv[1])


class Knob:
    def available(self):
        return (Clocks(1e9), Clocks(2e9))

    def current(self):
        return Clocks(1e9)

    def found(self):
        return Found("toy", ((str(CLOCK), CLOCK.read_text()),))

    def apply(self, clocks):
        CLOCK.write_text("changed")


device = lease.guarded(replace(amble.open("toy:mine"), actuator=Knob()))
device.actuator.apply(Clocks(1e9))
assert CLOCK.read_text() == "changed"
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_clocks_of_another_package_s_device_are_put_back_after_kill_9(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("as it was")
    paths = os.pathsep.join((str(toy), *filter(None, [os.environ.get("PYTHONPATH")])))
    environment = {**os.environ, "PYTHONPATH": paths, "XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "clock")]
    assert subprocess.run(command, env=environment, check=False, timeout=60).returncode == -signal.SIGKILL
    until_s = time.monotonic() + 30
    while (tmp_path / "clock").read_text() != "as it was" and time.monotonic() < until_s:
        time.sleep(0.05)
    assert (tmp_path / "clock").read_text() == "as it was"


def test_clocks_that_nobody_can_put_back_are_refused_by_the_name_of_their_device() -> None:
    with pytest.raises(Refused, match="nothing that is installed can put back what 'gone' found"):
        lease.put_back(Found("gone", ()))


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"sim": "toy:BACK_END"}, "would take amble's own name"),
        ({"toy": "toy:NOT_ONE"}, "'toy' of toy is a int, which is nothing for amble.devices"),
        ({"toy": "toy:MISSING"}, "cannot be imported: AttributeError"),
        ({"toy": "nowhere:BACK_END"}, "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_package_that_brings_what_does_not_fit_is_named(
    entries: dict[str, str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(installed(tmp_path / "site", "toy", TOY, devices=entries)))
    (scheme,) = entries
    try:
        with pytest.raises(Refused, match=re.escape(told)):
            back_end(f"{scheme}:mine")
    finally:
        sys.modules.pop("toy", None)


def test_two_packages_of_one_name_are_both_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        entries = {"toy": f"{name}:BACK_END"}
        monkeypatch.syspath_prepend(str(installed(tmp_path / name, name, TOY, devices=entries)))
    with pytest.raises(Refused, match="first, second would take each other's name"):
        back_end("toy:mine")


def test_without_other_packages_there_are_amble_s_own_kinds() -> None:
    assert back_ends() == tuple(BACK_ENDS.values())


def test_a_governor_of_another_package_decides_what_is_served(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", "steady", STEADY, governors={"steady": "steady:governor"})
    paths = os.pathsep.join((str(site), *filter(None, [os.environ.get("PYTHONPATH")])))
    environment = {**os.environ, "PYTHONPATH": paths, "MADE": str(tmp_path / "made")}
    command = [str(Path(sys.executable).parent / "amble"), "serve", "fashion-resnet", "--governor", "steady", "--json"]
    doors = ["--http-port=0", "--grpc-port=-1", "--metrics-port=-1", "--max-batch=1", "--slo", "500ms"]
    with subprocess.Popen(
        [*command, *doors], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert server.stderr is not None
            line = next(line for line in server.stderr if line.startswith('{"ready"'))
            address = json.loads(line)["ready"]["http"]
            for _ in range(600):
                if (tmp_path / "made").exists():
                    break
                time.sleep(0.1)
            asked = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
            asked.request("GET", "/v2/models/fashion-resnet")
            assert json.load(asked.getresponse())["name"] == "fashion-resnet"
            asked.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=60)
    assert (tmp_path / "made").read_text() == "fashion-resnet 0.5"


def test_an_unknown_governor_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValueError, match="unknown governor 'ambel', did you mean 'amble'"):
        amble.serve(["fashion-resnet"], options=_options("ambel"))


def _options(governor: str) -> Any:
    from amble.services.serve.models.options import Options

    return Options(governor=governor)
