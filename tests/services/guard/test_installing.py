"""The unit is one that systemd takes; installed, started, used and taken away in a root of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.services.guard import installing
from tests.devices import fake_sys

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="installing needs root")
NAMESPACE = ["unshare", "--mount", "--propagation", "private"]
NOBODY = pwd.getpwnam("nobody")

AMBLE = "#!{python}\nfrom amble.cli import main\nmain()\n"

SYSTEMCTL = """#!/bin/sh
# As much of systemctl as the guard asks for: it starts what the unit says, and ends it.
echo "$@" >> {folder}/told
end() {{
    kill $(cat {folder}/pid)
    while kill -0 $(cat {folder}/pid) 2> {folder}/gone; do sleep 0.05; done
}}
case "$1" in
restart)
    if [ -e {folder}/pid ]; then end; fi
    rm -f {folder}/log
    mkdir -p /run/amble /var/lib/amble/guard
    sh -c "exec $(sed -n s/^ExecStart=//p /etc/systemd/system/amble-guard.service)" > {folder}/said 2> {folder}/log &
    echo $! > {folder}/pid
    until grep -qs "lending clocks" {folder}/log; do kill -0 $! || exit 1; sleep 0.05; done ;;
disable) end ;;
esac
"""

INSIDE = """
set -e
mount -t tmpfs none {folder}/layer
mkdir {folder}/layer/up {folder}/layer/work
mount -t overlay none -o lowerdir=/etc,upperdir={folder}/layer/up,workdir={folder}/layer/work /etc
mount -t tmpfs none /var/lib
mount -t tmpfs none /run
mkdir -p /etc/systemd/system
SUDO_USER=nobody {folder}/amble guard --install
cat /etc/amble/guard.yaml > {folder}/list
cp {folder}/guard.yaml /etc/amble/guard.yaml
{folder}/amble guard --install
cp /etc/systemd/system/amble-guard.service {folder}/
setpriv --reuid=nobody --clear-groups {python} {folder}/client.py > {folder}/held
if setpriv --reuid=1234 --clear-groups {python} {folder}/client.py 2> {folder}/denied; then exit 7; fi
(setpriv --reuid=nobody --clear-groups {python} {folder}/client.py stay > {folder}/stays) &
until [ -s {folder}/stays ]; do sleep 0.05; done
{folder}/amble guard --uninstall
ls /etc/systemd/system /run/amble > {folder}/left
"""

CLIENT = """
import sys, time
from pathlib import Path
from amble.core.point import Clocks
from amble.devices.guarded import GuardedActuator, found_socket
actuator = GuardedActuator({device!r}, found_socket())
actuator.apply(actuator.available()[0])
print(Path({gpu!r}, "max_freq").read_text(), flush=True)
if sys.argv[1:]:
    time.sleep(60)
"""


def as_program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def can_be_alone() -> bool:
    probe = [*NAMESPACE, "sh", "-c", "mount -t tmpfs none /mnt && mkdir /mnt/l /mnt/u /mnt/w && mount -t overlay none "]
    probe[-1] += "-o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/w /mnt/l"
    return shutil.which("unshare") is not None and subprocess.run(probe, capture_output=True).returncode == 0


def ended(command: list[str], environment: dict[str, str], errors: Path) -> int:
    """Run to the end → the exit code; whatever happens, a guard or a client that is left then is ended, too.

    Errors go to a file: a pipe is open for as long as one of those lives.
    """
    with errors.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        return process.wait(120)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@ROOT
@pytest.mark.skipif(os.geteuid() == 0 and not can_be_alone(), reason="no mount namespaces here")
def test_installed_it_serves_whom_the_list_names_and_uninstalled_it_leaves_nothing(open_folder):
    gpu = fake_sys.devfreq(open_folder / "tree", "17000000.gpu")
    device = f"sysfs:gpu?root={open_folder / 'tree'}"
    (open_folder / "layer").mkdir()
    (open_folder / "guard.yaml").write_text(f"allow:\n  - device: {device}\n    users: [nobody]\n")
    (open_folder / "client.py").write_text(CLIENT.format(device=device, gpu=str(gpu)))
    as_program(open_folder / "amble", AMBLE.format(python=sys.executable))
    as_program(open_folder / "systemctl", SYSTEMCTL.format(folder=open_folder))
    environment = os.environ | {"PATH": f"{open_folder}:{os.environ['PATH']}"}
    script = INSIDE.format(folder=open_folder, python=sys.executable)
    code = ended([*NAMESPACE, "sh", "-c", script], environment, open_folder / "errors")
    assert code == 0, (open_folder / "errors").read_text()
    assert "users: [nobody]" in (open_folder / "list").read_text()
    lines = (open_folder / "told").read_text().splitlines()
    begins = ["daemon-reload", "enable amble-guard", "restart amble-guard"]
    assert lines == [*begins, *begins, "disable --now amble-guard", "daemon-reload"]
    assert (open_folder / "held").read_text().strip() == "114750000"
    assert (open_folder / "stays").read_text().strip() == "114750000"
    assert "user 1234 may not set its clocks" in (open_folder / "denied").read_text()
    assert fake_sys.bounds(gpu) == ("114750000", "1300500000")
    assert "amble-guard" not in (open_folder / "left").read_text()
    assert "guard.sock" not in (open_folder / "left").read_text()
    assert not Path("/etc/systemd/system/amble-guard.service").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path):
    odd = tmp_path / "a folder of 100% odd names; $HOME"
    odd.mkdir()
    for program in (as_program(tmp_path / "amble", "#!/bin/sh\n"), as_program(odd / "amble", "#!/bin/sh\n")):
        unit = tmp_path / "amble-guard.service"
        unit.write_text(installing.unit([str(program), "guard", "--allow", "/etc/amble/guard.yaml"]))
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
        assert (done.returncode, "amble" in done.stderr) == (0, False), done.stderr
    (odd / "amble").unlink()
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert done.returncode != 0  # what it says of a program that is not there shows that it read the name


@ROOT
def test_installing_writes_a_unit_and_an_allow_list_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(as_program(tmp_path / "amble", "#!/bin/sh\n"))])
    unit, allow = tmp_path / "amble-guard.service", tmp_path / "guard.yaml"
    assert installing.install(place=unit, allow=allow, start=False) == (unit, allow)
    assert "KillMode=process" in unit.read_text()  # the watchdog must outlive the guard
    allow.write_text("allow: []\n")
    assert installing.install(place=unit, allow=allow, start=False) == (unit,)
    assert allow.read_text() == "allow: []\n"
    assert installing.uninstall(place=unit, stop=False) == (unit,)
    assert not unit.exists()
    assert allow.exists()
    with pytest.raises(Refused, match="no guard is installed here"):
        installing.uninstall(place=unit, stop=False)


@ROOT
@pytest.mark.parametrize("name", ["__main__.py", "am'ble", 'am"ble', "am\\ble"])
def test_what_systemd_cannot_start_is_refused(tmp_path, monkeypatch, name):
    program = tmp_path / name
    if program.suffix != ".py":
        as_program(program, "#!/bin/sh\n")
    monkeypatch.setattr(sys, "argv", [str(program)])
    with pytest.raises(Refused, match="cannot be started by systemd"):
        installing.install(place=tmp_path / "unit", allow=tmp_path / "guard.yaml", start=False)
    assert not (tmp_path / "unit").exists()


def test_installing_without_root_names_sudo(open_folder, lose_rights):
    lose_rights()
    if os.geteuid() != 0:
        with pytest.raises(Refused, match="sudo amble guard --install"):
            installing.install(place=open_folder / "unit", allow=open_folder / "guard.yaml", start=False)
        with pytest.raises(Refused, match="sudo amble guard --uninstall"):
            installing.uninstall(place=open_folder / "unit", stop=False)


@ROOT
def test_a_program_that_others_may_change_is_told(open_folder):
    place = open_folder / "bin"
    place.mkdir(mode=0o755)
    program = as_program(place / "amble", "")
    shutil.chown(place, NOBODY.pw_uid)
    assert installing.changeable(program) == str(place)
    shutil.chown(program, NOBODY.pw_uid)
    assert installing.changeable(program) == str(program)
    assert installing.changeable(Path("/usr/bin/env")) == ""
