"""The command line as a user meets it: real processes of the real verbs, on simulated and recorded devices."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from amble.cli.terminal import Terminal, reporting
from tests.runtimes import models

AMBLE = Path(sys.executable).parent / "amble"
VERBS = ("check", "devices", "fit", "measure", "plan", "predict", "restore", "show")


def run(*words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AMBLE_CACHE": str(cwd / "cache"), "XDG_STATE_HOME": str(cwd / "state"), **variables}
    return subprocess.run([AMBLE, *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def profile(folder: Path) -> Path:
    path = folder / "profile.json"
    found = run("measure", "synthetic:6", "-d", "sim:jetson-orin-nano", "-o", path, "--points", "6", cwd=folder)
    assert found.returncode == 0, found.stderr
    return path


@pytest.fixture(scope="module")
def costs(folder: Path, profile: Path) -> Path:
    path = folder / "costs.json"
    found = run("fit", profile, "-o", path, "--model", "p-norm", cwd=folder)
    assert found.returncode == 0, found.stderr
    return path


@pytest.fixture(scope="module")
def schedule(folder: Path, costs: Path) -> Path:
    path = folder / "schedule.json"
    words = ("plan", costs, "-d", "sim:jetson-orin-nano", "--deadline", "200ms", "-o", path)
    found = run(*words, "--script", folder / "plan.sh", "--csv", folder / "plan.csv", cwd=folder)
    assert found.returncode == 0, found.stderr
    return path


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-d", "sim:v100"), "these are the costs of sim:jetson-orin-nano, not of sim:v100; leave --device out"),
        (("--batch", "4"), "was measured otherwise than --batch 4 says"),
        (("--shape", "x:1,9"), "was measured otherwise than --shape x says"),
    ],
)
def test_costs_are_not_planned_for_what_they_were_not_measured_on(
    folder: Path, costs: Path, profile: Path, words: tuple[str, ...], told: str
) -> None:
    for measured in (costs, profile):
        found = run("plan", measured, *words, "--deadline", "200ms", "-o", folder / "other.json", cwd=folder)
        assert found.returncode == 2
        assert told in " ".join(found.stderr.split())
        assert not (folder / "other.json").exists()


def test_a_plan_says_so_when_its_network_is_gone_or_another(tmp_path: Path) -> None:
    net = models.saved(tmp_path, models.mlp(batch=1), "net.onnx")
    words = ("-d", "sim:jetson-tx2", "--deadline", "200ms", "-o", "plan.json")
    assert run("plan", net, *words, cwd=tmp_path).returncode == 0
    for change in (lambda: models.saved(tmp_path, models.cnn(batch=1), "net.onnx"), net.unlink):
        change()
        found = run("check", "plan.json", "-d", "sim:jetson-tx2", cwd=tmp_path)
        assert found.returncode == 2
        assert "the network that this was made for cannot be read again: " in found.stderr
        assert "net.onnx" in found.stderr


def test_a_plan_that_was_cut_by_hand_is_no_plan_of_its_network(folder: Path, schedule: Path) -> None:
    cut = json.loads(schedule.read_text())
    cut["schedule"]["steps"].pop()
    (folder / "cut.json").write_text(json.dumps(cut))
    found = run("check", "cut.json", "-d", "sim:jetson-orin-nano", "--load", "periodic:200ms:5", cwd=folder)
    assert found.returncode == 2
    assert "the schedule plans 5 operators, and" in " ".join(found.stderr.split())


def test_a_table_of_several_devices_is_planned_for_the_one_that_is_named(folder: Path) -> None:
    clocks = (300, 500, 700, 900, 1100, 1300)
    rows = [f"{name},net,{f}e6,{k / f},{30 + f / 20}" for name, k in (("one", 2), ("other", 4)) for f in clocks]
    (folder / "two.csv").write_text("\n".join(["device,workload,core_hz,latency_s,power_w", *rows]))
    assert run("fit", "two.csv", "-o", "two.json", "--model", "interpolate", cwd=folder).returncode == 0
    words = ("plan", "two.json", "--deadline", "200ms", "-o", "chosen.json")
    unsaid = run(*words, cwd=folder)
    assert unsaid.returncode == 2
    assert "several devices; with --device name one of one, other" in " ".join(unsaid.stderr.split())
    fastest_s = {}
    for name in ("one", "other"):
        assert run(*words, "--device", name, cwd=folder).returncode == 0
        made = json.loads((folder / "chosen.json").read_text())["schedule"]
        fastest_s[name] = min(each["predicted"]["latency_s"] for each in made["baselines"])
    assert fastest_s["other"] == pytest.approx(2 * fastest_s["one"], rel=0.05)


def test_help_teaches_and_names_every_verb(folder: Path) -> None:
    found = run("--help", cwd=folder)
    assert found.returncode == 0
    assert all(verb in found.stdout for verb in VERBS)
    assert "Start with" in found.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_json_config_and_dry_run(verb: str, folder: Path) -> None:
    found = run(verb, "--help", cwd=folder)
    assert all(option in found.stdout for option in ("--json", "--config", "--dry-run"))


def test_devices_are_listed_with_what_is_missing(folder: Path) -> None:
    found = json.loads(run("devices", "--json", cwd=folder).stdout)
    names = {each["name"] for each in found}
    assert {"host", "sim:jetson-tx2", "sim:h200"} <= names


def test_names_are_not_cut_in_a_pipe_and_progress_leaves_no_line(folder: Path, profile: Path) -> None:
    found = run("show", profile, cwd=folder, COLUMNS="200")
    assert "…" not in found.stdout
    assert run("restore", cwd=folder).stderr == "no run left clocks changed\n"
    assert run("restore", "--json", cwd=folder).stdout == "[]\n"


def test_a_plan_goes_from_profile_to_verdict(folder: Path, schedule: Path) -> None:
    words = ("check", schedule, "-d", "sim:jetson-orin-nano", "--load", "periodic:250ms:400", "--json")
    found = run(*words, "--trace", folder / "trace.json", cwd=folder)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    assert {each["policy"] for each in report["policies"]} >= {"amble", "maximum clocks", "best single clocks"}
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]


def test_a_plan_leaves_as_a_script_and_as_a_table(folder: Path, schedule: Path) -> None:
    assert subprocess.run(["sh", "-n", folder / "plan.sh"]).returncode == 0
    assert (folder / "plan.csv").read_text().startswith("stage,instruction,frequency,time,energy")


def test_any_file_is_shown(folder: Path, profile: Path, costs: Path, schedule: Path) -> None:
    for path in (profile, costs, schedule):
        found = run("show", path, cwd=folder)
        assert found.returncode == 0, found.stderr
        assert len(found.stdout.splitlines()) > 5


def test_costs_predict_a_table_of_points(folder: Path, costs: Path) -> None:
    points = folder / "points.csv"
    header = "device,workload,kernel,precision,batch,core_hz,memory_hz"
    points.write_text(f"{header}\norin,synthetic,,fp32,1,624750000,2133000000\n")
    found = run("predict", costs, "--at", points, "-o", folder / "out.csv", "--json", cwd=folder)
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)["latency_s"]) == 1
    assert "latency_lo_s" in (folder / "out.csv").read_text().splitlines()[0]


def test_points_that_the_device_lacks_are_unknown_and_said(folder: Path, costs: Path) -> None:
    points = folder / "elsewhere.csv"
    points.write_text("kernel,core_hz,memory_hz\n,9e8,9e8\nnothing,624750000,2133000000\n")
    found = run("predict", costs, "--at", points, cwd=folder)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("unknown") == 12
    assert "2 rows are at clocks that the device lacks" in found.stdout


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Path:
    table = folder / "[bold]measured.CSV"
    rows = [f"[red]net[/],{clock}e6,{2 / clock + 0.001},{clock / 50}" for clock in (500, 800, 1200, 1500)]
    table.write_text("\n".join(["workload,core_hz,latency_s,power_w", *rows]))
    found = run("fit", table, "-o", folder / "fitted.json", cwd=folder)
    assert found.returncode == 0, found.stderr
    assert "Fit of" in found.stdout
    assert "[bold]measured.CSV" in found.stdout.replace("\n", "")
    return folder / "fitted.json"


def test_predictions_of_a_table_say_what_they_could_hardly_tell(folder: Path, fitted: Path) -> None:
    points = folder / "asked.csv"
    points.write_text("workload,core_hz\n[red]net[/],1e9\nother,1e9\n")
    found = run("predict", fitted, "--at", points, "-o", folder / "predicted.csv", cwd=folder)
    assert found.returncode == 0, found.stderr
    assert "wrote" in found.stderr
    assert "1 rows are of workloads that were not fitted" in found.stdout
    document = json.loads(run("predict", fitted, "--at", points, "--json", cwd=folder).stdout)
    assert "not fitted" in document["notes"][0]
    assert abs(document["latency_s"][0] / 0.003 - 1) < 0.05


def test_a_table_in_place_of_a_fit_is_refused_with_what_to_do(folder: Path, fitted: Path) -> None:
    found = run("predict", folder / "asked.csv", "--at", folder / "asked.csv", cwd=folder)
    assert found.returncode == 2
    assert "is a table, not a fit; make one first: amble fit" in found.stderr


def test_a_deadline_that_cannot_be_kept_exits_with_1_and_says_what_could(folder: Path, costs: Path) -> None:
    found = run("plan", costs, "-d", "sim:jetson-orin-nano", "--deadline", "1us", "--json", cwd=folder)
    assert found.returncode == 1
    document = json.loads(found.stdout)
    assert "fastest schedule takes" in document["error"]
    assert document["fastest_s"] > 1e-6
    assert document["fastest"]["steps"]


BAD = [
    (("plan", "none.onnx", "-d", "sim:jetson-tx2", "--deadline", "30ms"), "none.onnx"),
    (("plan", "text.onnx", "-d", "sim:jetson-tx2", "--deadline", "30ms"), "text.onnx"),
    (("plan", "synthetic:3", "-d", "sim:jetson-tx3", "--deadline", "30ms"), "jetson-tx2"),
    (("plan", "synthetic:3", "-d", "jetson-tx2", "--deadline", "30ms"), "sim:CHIP"),
    (("plan", "synthetic:3", "-d", "sim:jetson-tx2", "--deadline", "30"), "no unit"),
    (("plan", "synthetic:3", "-d", "sim:jetson-tx2", "--deadline", "30ms@99"), "p99"),
    (("plan", "synthetic:3", "-d", "sim:jetson-tx2"), "--deadline"),
    (("measure", "synthetic:3", "-d", "recorded:nothing"), "nothing"),
    (("measure", "synthetic:x", "-d", "sim:jetson-tx2"), "synthetic"),
    (("show", "text.onnx"), "text.onnx"),
    (("fit", "text.csv"), "text.csv"),
    (("check", "text.onnx", "-d", "sim:jetson-tx2"), "text.onnx"),
    (("measure", "synthetic:3", "-d", "sim:jetson-tx2", "--shape", "ids"), "--shape"),
    (("measure", "synthetic:3", "-d", "sim:jetson-tx2", "--shape", "ids:1,8"), "--shape ids"),
    (("measure", "fashion-resnet", "-d", "sim:jetson-tx2", "--shape", "nothing:1,8"), "no input 'nothing'"),
    (("measure", "all", "-d", "recorded:a100-pcie-kerneltuner-fma", "--batch", "4"), "--batch 4"),
    (("measure", "all", "-d", "recorded:a100-pcie-kerneltuner-fma", "--shape", "x:1"), "--shape x"),
    (("plan", "synthetic:3", "-d", "sim:jetson-tx2", "--deadline", "1s", "--period", "0ms"), "must be positive"),
]


@pytest.mark.parametrize(("words", "named"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_wrong_input_is_one_line_that_names_it_and_exits_with_2(
    words: tuple[str, ...], named: str, tmp_path: Path
) -> None:
    (tmp_path / "text.onnx").write_text("not a network")
    (tmp_path / "text.csv").write_text("a,b\n1")
    found = run(*words, cwd=tmp_path)
    assert found.returncode == 2, found.stdout + found.stderr
    assert named in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


def test_a_profile_of_another_model_is_refused(folder: Path, profile: Path, tmp_path: Path) -> None:
    changed = json.loads(profile.read_text())
    changed["profile"]["subject"]["digest"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(changed))
    found = run("plan", tmp_path / "other.json", "-d", "sim:jetson-orin-nano", "--deadline", "1s", cwd=folder)
    assert found.returncode == 2
    assert "measure and fit it anew" in found.stderr


def test_a_file_of_an_older_format_is_refused(profile: Path, tmp_path: Path) -> None:
    old = json.loads(profile.read_text()) | {"format": 0}
    (tmp_path / "old.json").write_text(json.dumps(old))
    found = run("fit", "old.json", cwd=tmp_path)
    assert found.returncode == 2
    assert "make the file again" in found.stderr


def test_options_come_from_the_command_line_then_variables_then_files(tmp_path: Path) -> None:
    (tmp_path / "amble.yaml").write_text("measure: {device: 'sim:from-file', points: 2}\n")
    assert "from-file" in run("measure", "synthetic:3", cwd=tmp_path).stderr
    assert "from-env" in run("measure", "synthetic:3", cwd=tmp_path, AMBLE_DEVICE="sim:from-env").stderr
    found = run("measure", "synthetic:3", "-d", "sim:from-line", cwd=tmp_path, AMBLE_DEVICE="sim:from-env")
    assert "from-line" in found.stderr


def test_a_wrong_configuration_names_its_file_or_option(tmp_path: Path) -> None:
    (tmp_path / "amble.yaml").write_text("plan: {dedline: 20ms}\n")
    found = run("plan", "synthetic:3", "-d", "sim:jetson-tx2", "--deadline", "1s", cwd=tmp_path)
    assert found.returncode == 2
    assert "amble.yaml: plan has no option dedline; is deadline meant?" in found.stderr
    (tmp_path / "other.yaml").write_text("plan: [1, 2")
    found = run("plan", "synthetic:3", "--config", "other.yaml", cwd=tmp_path)
    assert found.returncode == 2
    assert "other.yaml" in found.stderr


def test_a_configuration_of_no_verb_is_named(tmp_path: Path) -> None:
    (tmp_path / "amble.yaml").write_text("pln: {deadline: 20ms}\n")
    found = run("devices", cwd=tmp_path)
    assert found.returncode == 2
    assert "amble.yaml names pln, which is no verb; is plan meant?" in found.stderr


@pytest.mark.parametrize("option", ["-o", "--html", "--trace"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = ("check", "nothing.json", "-d", "sim:jetson-tx2", option, "file/below/report.json")
    found = run(*words, cwd=tmp_path)
    assert found.returncode == 2
    assert "file is not a folder" in " ".join(found.stderr.split())
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = run("plan", "synthetic:3", "-d", "sim:jetson-tx2", "--deadline", "1s", cwd=tmp_path, AMBLE_CACHE="file")
    assert found.returncode == 2
    assert "let AMBLE_CACHE name a folder" in found.stderr


def test_layers_timed_by_tensorrt_are_fitted(tmp_path: Path) -> None:
    layers = [{"count": 10}, {"name": "conv1", "timeMs": 5.0, "averageMs": 0.5, "medianMs": 0.4, "percentage": 100.0}]
    (tmp_path / "layers.json").write_text(json.dumps(layers))
    found = run("fit", "layers.json", "--trtexec", "1410MHz", "-o", "costs.json", "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["latency_s"] == [[0.0004]]


@pytest.mark.parametrize("output", [("-o", "map.json"), ()], ids=["kept", "not kept"])
def test_an_interruption_says_what_is_kept_and_nothing_of_clocks_that_were_never_set(
    output: tuple[str, ...], tmp_path: Path
) -> None:
    words = [str(AMBLE), "dram", "fashion-resnet", "--data", "bundled", "--examples", "50", *output]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert re.fullmatch(r"amble: mapping fashion-resnet: .*, \d+ so far, \d+ s gone\n", first)
        process.send_signal(signal.SIGTERM)  # as Ctrl-C, which those that run in the background may ignore
        last = process.stderr.read().splitlines()[-1]
    assert process.returncode == 130
    assert last.startswith("amble: interrupted; ")
    assert "clocks" not in last
    if output:
        assert "what was found is in map.json.part; the same call goes on from there" in last
        assert (tmp_path / "map.json.part").exists()
    else:
        assert "nothing is kept; with -o" in last


def test_what_the_system_does_not_allow_is_one_line_that_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verb(terminal: Terminal) -> None:
        with reporting(terminal):
            (tmp_path / "none" / "file").write_bytes(b"")

    with pytest.raises(SystemExit) as ended:
        verb(Terminal(as_json=False, dry_run=False))
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"amble: {tmp_path}/none/file: No such file or directory\n"


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    found = run("measure", "synthetic:3", "-d", "sim:jetson-tx2", "-o", "p.json", "--dry-run", cwd=tmp_path)
    assert found.returncode == 0
    assert "would measure" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_a_document_where_one_is_asked_for(tmp_path: Path) -> None:
    found = run("check", "plan.json", "-d", "sim:jetson-tx2", "--dry-run", "--json", cwd=tmp_path)
    assert found.returncode == 0
    assert json.loads(found.stdout)["would"].startswith("run plan.json and its baselines on sim:jetson-tx2")


def test_an_unwritable_place_is_refused_and_leaves_nothing(folder: Path, profile: Path) -> None:
    found = run("fit", profile, "--model", "p-norm", "-o", "/proc/none/costs.json", cwd=folder)
    assert found.returncode == 2
    assert "/proc/none/costs.json" in found.stderr


def test_a_recorded_table_is_planned_with_gross_energy(tmp_path: Path) -> None:
    words = ("plan", "all", "-d", "recorded:a100-pcie-kerneltuner-fma", "--deadline", "10s", "--json")
    found = run(*words, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["accounting"] == "gross"


def test_a_recorded_table_of_power_limits_is_planned(tmp_path: Path) -> None:
    rows = [
        f"card,{name},{clock},{limit},{size * (1 + 90 / limit + 1e9 / clock)},{0.9 * limit}"
        for name, size in (("net", 1), ("other", 2))
        for clock in (500_000_000, 800_000_000, 1_200_000_000)
        for limit in (100, 150, 200, 250)
    ]
    table = tmp_path / "card.csv"
    table.write_text("\n".join(["device,workload,core_hz,power_limit_w,latency_s,power_w", *rows]) + "\n")
    found = run("plan", "net", "-d", f"recorded:{table}", "--deadline", "10s", "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["steps"][0]["point"]["clocks"]["power_limit_w"] == 100
