import csv
import io
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from amble.core.cost import Cost
from amble.core.errors import Refused
from amble.core.point import Clocks, OperatingPoint
from amble.core.schedule import Baseline, Deadline, Schedule, Step
from amble.core.subject import Subject, Where
from amble.stages.plan import export
from tests.devices import fake_sys

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
GPU = fake_sys.GPU_LEVELS_HZ
EMC = tuple(level * 1000.0 for level in fake_sys.EMC_LEVELS_KHZ)
LOW, HIGH = Clocks(float(GPU[0]), EMC[0]), Clocks(float(GPU[1]), EMC[2])


def a_schedule(*settings: Clocks, device: str = "sysfs:gpu", wait: Clocks | None = None, **changes) -> Schedule:
    """One operator a setting."""
    steps = tuple(Step(f"op{at}", OperatingPoint(clocks), Cost(0.002, 0.01)) for at, clocks in enumerate(settings))
    schedule = Schedule(
        subject=Subject(network="net", source="net.onnx", digest="0", batch=1),
        where=Where(device=device, calibration="real"),
        deadline=Deadline(0.03),
        period_s=0.03,
        accounting="period",
        margin=1.1,
        steps=steps,
        wait=settings[0] if wait is None else wait,
        predicted=Cost(0.02, 0.1),
        lower_bound_j=0.1,
    )
    return replace(schedule, **changes)


@pytest.fixture
def tree(tmp_path):
    fake_sys.devfreq(tmp_path, "38000.memory-controller", (1, 2))
    fake_sys.devfreq(tmp_path, "17000000.ga10b")
    fake_sys.emc(tmp_path)
    fake_sys.cpufreq(tmp_path, 2)
    (tmp_path / "tmp").mkdir()
    fake_sys.cpufreq(tmp_path, 1, (400_000, 1_400_000), first=4)
    return tmp_path


def run(schedule: Schedule, tree: Path, command: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    path = tree / "plan.sh"
    path.write_text(export.script(schedule))
    environment = {
        **os.environ,
        "AMBLE_SYSFS_ROOT": str(tree),
        "TMPDIR": str(tree / "tmp"),
        "PATH": f"{tree}/bin:{os.environ['PATH']}",
    }
    words = [shell, str(path), "sh", "-c", command] if command else [shell, str(path)]
    return subprocess.run(words, env=environment, cwd=tree, capture_output=True, text=True, timeout=120)


SHOW = "cat sys/class/devfreq/*/m??_freq sys/kernel/debug/bpmp/debug/clk/emc/*"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_runs_at_the_planned_clocks_and_what_was_found_comes_back(tree, shell):
    before = run(a_schedule(LOW), tree, "true").returncode, shown(tree)
    done = run(a_schedule(LOW), tree, SHOW, shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(GPU[0])] * 2 + ["2", "1"] + ["1", str(int(EMC[0]))]
    assert (0, shown(tree)) == before
    assert "1300500000 114750000 2 1 0 2133000000" in shown(tree)


def shown(tree: Path) -> str:
    return " ".join(subprocess.run(["sh", "-c", SHOW], cwd=tree, capture_output=True, text=True).stdout.split())


def test_the_exit_code_of_the_command_is_kept(tree):
    assert run(a_schedule(LOW), tree, "exit 7").returncode == 7
    assert "1300500000 114750000" in shown(tree)


def test_without_a_command_the_usage_is_shown_and_nothing_changes(tree):
    done = run(a_schedule(LOW), tree, "")
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert "1300500000 114750000" in shown(tree)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_puts_back_what_was_found(tree, end):
    path = tree / "plan.sh"
    path.write_text(export.script(a_schedule(LOW)))
    environment = {**os.environ, "AMBLE_SYSFS_ROOT": str(tree)}
    command = ["sh", path, "sh", "-c", "echo held; exec sleep 30"]
    with subprocess.Popen(
        command, env=environment, cwd=tree, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert f"{GPU[0]} {GPU[0]}" in shown(tree)
        os.killpg(process.pid, end)
    assert process.returncode == 130
    assert "1300500000 114750000" in shown(tree)


def test_a_command_walks_through_the_segments_by_their_numbers(tree):
    """A segment is there when both ends of its range are: however long a busy machine takes for that."""

    def reached(level: int) -> str:
        return f'until [ "$(cat sys/class/devfreq/17000000.ga10b/m*_freq | sort -u)" = {level} ]; do sleep 0.01; done'

    walk = (
        f'{SHOW}; echo 1 >"$AMBLE_CLOCKS"; {reached(GPU[1])}; {SHOW}; '
        f"echo wait >$AMBLE_CLOCKS; {reached(GPU[0])}; {SHOW}"
    )
    done = run(a_schedule(LOW, HIGH, wait=LOW), tree, walk)
    assert (done.returncode, done.stderr) == (0, "")
    cores = [line for line in done.stdout.split() if line in {str(level) for level in GPU}]
    assert cores == [str(GPU[0])] * 2 + [str(GPU[1])] * 2 + [str(GPU[0])] * 2
    assert "1300500000 114750000" in shown(tree)


def test_a_plan_that_waits_at_other_clocks_has_the_pipe_too():
    assert "AMBLE_CLOCKS" in export.script(a_schedule(HIGH, wait=LOW))
    assert "AMBLE_CLOCKS" not in export.script(a_schedule(HIGH, wait=HIGH))


def test_a_script_that_stops_early_leaves_no_folder_behind(tree):
    done = run(a_schedule(Clocks(7e8)), tree, "echo ran")
    assert done.returncode == 1
    assert list((tree / "tmp").iterdir()) == []


def test_an_unknown_segment_is_said_and_changes_nothing(tree):
    done = run(a_schedule(LOW, HIGH), tree, 'echo 9 >"$AMBLE_CLOCKS"; sleep 0.3')
    assert "no segment 9" in done.stderr
    assert done.returncode == 0


def test_the_processors_that_reach_the_clock_are_held(tree):
    done = run(a_schedule(Clocks(cpu_hz=1.6e9), device="host"), tree, "cat sys/devices/system/cpu/cpufreq/*/*min_freq")
    numbers = done.stdout.split()
    assert numbers == ["800000", "1600000"] * 2 + ["400000", "400000"]
    policies = sorted((tree / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    assert [fake_sys.bounds(policy) for policy in policies] == [("800000", "2000000")] * 2 + [("400000", "1400000")]


def test_a_clock_that_no_node_offers_stops_the_script_before_the_command(tree):
    done = run(a_schedule(Clocks(7e8)), tree, "echo ran")
    assert done.returncode == 1
    assert "no devfreq node offers 700000000 Hz" in done.stderr
    assert done.stdout == ""


def test_a_clock_that_is_not_kept_stops_the_script_and_is_undone(tree):
    low = tree / "sys/class/devfreq/17000000.ga10b/min_freq"
    low.unlink()
    low.symlink_to("/dev/null")
    done = run(a_schedule(Clocks(float(GPU[0]))), tree, "echo ran")
    assert done.returncode == 1
    assert "asked for 114750000" in done.stderr
    assert (low.parent / "max_freq").read_text() == f"{GPU[-1]}\n"


def test_a_named_node_is_used_as_it_is_named(tree):
    folder = tree / "sys/class/devfreq/38000.memory-controller"
    done = run(a_schedule(Clocks(2.0), device=f"sysfs:{folder.name}"), tree, f"cat {folder}/m??_freq")
    assert done.stdout.split() == ["2", "2"]


@pytest.fixture
def nvidia_smi(tree):
    """An nvidia-smi that writes down what it was asked, with a limit of 300 W."""
    path = fake_sys.write(tree / "bin/nvidia-smi", "")
    path.write_text('#!/bin/sh\necho "$*" >>smi.log\ncase "$*" in *query*) echo 300.00 ;; esac\n')
    path.chmod(0o755)
    return lambda: (tree / "smi.log").read_text().splitlines()[1:]


A, B = Clocks(1.2e9, 1.593e9), Clocks(1.2e9, 2.619e9)


def test_nvidia_smi_locks_and_releases(tree, nvidia_smi):
    done = run(a_schedule(A, wait=B, device="nvml:1"), tree, "echo ran >>smi.log")
    assert (done.returncode, done.stderr) == (0, "")
    assert nvidia_smi() == ["-i 1 -lgc 1200,1200", "-i 1 -lmc 1593,1593", "ran", "-i 1 -rgc", "-i 1 -rmc"]


def test_the_only_memory_clock_is_left_alone(tree, nvidia_smi):
    run(a_schedule(A, wait=A, device="nvml:1"), tree, "true")
    assert nvidia_smi() == ["-i 1 -lgc 1200,1200", "-i 1 -rgc"]


def test_a_memory_clock_below_the_baselines_is_locked(tree, nvidia_smi):
    maximum = Baseline("max", Cost(), meets=True, point=OperatingPoint(B))
    run(a_schedule(A, wait=A, device="nvml:0", baselines=(maximum,)), tree, "true")
    assert "-i 0 -lmc 1593,1593" in nvidia_smi()


def test_a_power_limit_is_set_and_the_one_found_comes_back(tree, nvidia_smi):
    run(a_schedule(Clocks(power_limit_w=150.0), device="recorded:v100-zeus-training"), tree, "true")
    assert nvidia_smi() == ["-i 0 -pl 150", "-i 0 -pl 300.00"]


def test_a_board_that_was_planned_by_its_uuid_is_set_by_it():
    assert "gpu=${AMBLE_GPU:-GPU-12ab}" in export.script(a_schedule(A, device="nvml:GPU-12ab"))


@pytest.mark.parametrize(
    ("device", "word"),
    [("sim:jetson-tx2", "devfreq"), ("sim:a100", "nvidia-smi"), ("host", "cpufreq"), ("recorded:v100-x", "nvidia-smi")],
)
def test_the_device_decides_the_tool(device, word):
    assert word in export.script(a_schedule(LOW, device=device))


def test_knobs_that_a_tool_does_not_have_are_refused():
    with pytest.raises(Refused, match="cannot set the CPU's clock"):
        export.script(a_schedule(Clocks(cpu_hz=1e9)), tool="nvidia-smi")
    with pytest.raises(Refused, match="no power limit"):
        export.script(a_schedule(Clocks(power_limit_w=100.0)), tool="sysfs")
    with pytest.raises(Refused, match="sets no clock"):
        export.script(a_schedule(Clocks()))


def test_names_cannot_leave_their_comment(tree):
    hostile = a_schedule(LOW, subject=Subject("net\ntouch bad"), where=Where("sysfs:gpu", "x\ntouch worse"))
    evil = replace(hostile, steps=(Step("op\ntouch worst", OperatingPoint(LOW)),))
    assert run(evil, tree, "true").returncode == 0
    assert not [name for name in ("bad", "worse", "worst") if (tree / name).exists()]


def test_the_head_says_what_was_planned_and_how_real_it_is():
    head = export.script(a_schedule(LOW, HIGH, where=Where("sysfs:gpu", "uncalibrated"))).split("set -eu")[0]
    assert "Deadline 30ms@p99; predicted 20 ms and 100 mJ (period energy)" in head
    assert "uncalibrated" in head
    assert "Segment 1: op1: core 624.75 MHz, memory 2133 MHz, fp32" in head


def test_perseus_csv_has_a_row_for_each_segment():
    text = export.perseus(a_schedule(LOW, LOW, HIGH))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert text.startswith("stage,instruction,frequency,time,energy\n")
    assert [(row["stage"], row["instruction"], row["frequency"]) for row in rows] == [
        ("0", "forward", "115"),
        ("1", "forward", "625"),
    ]
    assert [float(row["time"]) for row in rows] == [0.004, 0.002]
    assert [float(row["energy"]) for row in rows] == [0.02, 0.01]


def test_perseus_csv_leaves_unknown_energy_empty_and_takes_the_cpu_clock():
    schedule = a_schedule(Clocks(cpu_hz=1.6e9))
    unknown = replace(schedule, steps=(replace(schedule.steps[0], predicted=Cost(0.002, None)),))
    (row,) = csv.DictReader(io.StringIO(export.perseus(unknown)))
    assert (row["frequency"], row["energy"]) == ("1600", "")


def test_perseus_csv_without_a_clock_is_refused():
    with pytest.raises(Refused, match="needs a clock"):
        export.perseus(a_schedule(Clocks(power_limit_w=100.0)))
