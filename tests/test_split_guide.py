"""The guide to splitting works as written. The only change: a small network."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from amble.levers.split.cuts import MOST
from tests.jobs.serving_process import started
from tests.runtimes import models

GUIDE = re.sub(r"<!--.*?-->", "", (Path(__file__).parents[1] / "docs" / "split.md").read_text())
AMBLE = Path(sys.executable).parent / "amble"


def test_every_step_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models.saved(tmp_path, models.cnn())
    commands = re.findall(r"^amble .*$", GUIDE, re.MULTILINE)
    verbs = [line.split()[1] for line in commands]
    assert verbs == ["split", "show", "show", "split", "serve", "run", "check", "split", "split"]
    (serve,) = [line for line in commands if line.startswith("amble serve")]
    for line in commands:
        if line.startswith("amble run"):
            words = [
                str(AMBLE),
                *shlex.split(serve)[1:],
                "--http-port",
                "0",
                "--grpc-port",
                "-1",
                "--metrics-port",
                "-1",
            ]
            with started([*words, "--json"], tmp_path) as server:
                found = call(line.replace(":8000", f":{server.port}"))
            assert "50 requests" in found.stdout
            assert "0 of 50 answers were not the whole network's" in found.stdout
        elif not line.startswith("amble serve"):
            found = call(line)
        if line.startswith(("amble split", "amble show")):
            several = line.count("--device") > 1
            assert ("no cuts, clocks and shares take less" if several else "The best cut by link rate") in found.stdout
        assert found.returncode == 0 or line.startswith("amble check"), found.stderr  # 50 requests prove no p99
    assert (tmp_path / "halves" / "split.json").exists()
    assert "Latency and energy of every cut" in (tmp_path / "split.html").read_text()


def call(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AMBLE, *shlex.split(line)[1:]], capture_output=True, text=True)


def test_what_the_guide_names_is_there() -> None:
    options = "".join(call(f"amble {verb} --help").stdout for verb in ("split", "show", "run", "serve"))
    named = set(re.findall(r"--[a-z][a-z-]+", GUIDE))
    assert named
    assert {each for each in named if each not in options} == set()
    assert f"more than {MOST} cuts" in GUIDE
