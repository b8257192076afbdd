"""``amble serve`` that cannot start: exit code 2, and one line that says what to do; and what ``--explain`` says."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.jobs.serving_process import started
from tests.services.serve.texts import encoder, saved, upper

AMBLE = str(Path(sys.executable).parent / "amble")


def failing(*words: str) -> str:
    """Run the command that must fail as wrongly used; the last line it says."""
    doors = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    done = subprocess.run([AMBLE, "serve", *doors, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("door", ["http", "grpc", "metrics"])
def test_a_port_that_is_taken_says_which_option_takes_another(door: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = failing("fashion-resnet", f"--{door}-port={taken.getsockname()[1]}")
    assert f"choose another with --{door}-port" in told


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["nowhere.onnx"], "no model nowhere.onnx; name an ONNX file"),
        (["net=nowhere.onnx"], "no model nowhere.onnx; name an ONNX file"),
        ([__file__], "not an ONNX file"),
        ([], "name a model, or a repository"),
        (["fashion-resnet", "--device", "ssh:board/host"], "use host, or nvml:0, or sysfs:NODE, or sim:CHIP"),
        (["fashion-resnet", "--device", "sim:none"], "none"),
        (["fashion-resnet", "--slo", "50"], "no unit"),
        (["fashion-resnet", "--host", "203.0.113.7"], "choose another with --host"),
        (["fashion-resnet", "--slo", "50", "--dry-run"], "no unit"),
        (["fashion-resnet?batch=x", "--dry-run"], "batch=x"),
        (["nowhere.onnx", "--dry-run"], "no model nowhere.onnx"),
    ],
)
def test_what_cannot_be_served_says_what_can(words: list[str], names: str) -> None:
    assert names in failing(*words)


def test_explain_says_what_is_batched_and_why_and_serves_nothing() -> None:
    command = [AMBLE, "serve", "fashion-resnet", "--explain"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=True)
    (told,) = json.loads(done.stdout)
    assert (told["model"], told["batched"]) == ("fashion-resnet", True)
    assert "mixes rows" in told["reason"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "fashion-resnet" in shown
    assert "mixes rows" in " ".join(shown.split())


def test_explain_needs_a_model_that_is_there() -> None:
    assert "no model nowhere.onnx" in failing("nowhere.onnx", "--explain")


def test_what_is_said_of_one_model_is_explained_and_what_is_wrong_names_it(tmp_path: Path) -> None:
    path = saved(tmp_path / "enc.onnx", encoder())
    command = [AMBLE, "serve", f"text={path}?seq=16&batch=4", "--explain", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    (told,) = json.loads(done.stdout)
    assert (told["model"], told["batched"]) == ("text", True)
    assert "requests of unlike length (seq) are padded to share a batch" in told["lengths"]
    assert "text?seq=0: seq=0" in failing(f"text={path}?seq=0")
    assert "model 'text'" in failing(f"text={path}?length=16")


def test_shared_memory_is_offered_by_its_flag_alone(tmp_path: Path) -> None:
    ports = ["--http-port=0", "--grpc-port=-1", "--metrics-port=-1"]
    command = [AMBLE, "serve", str(saved(tmp_path / "up.onnx", upper())), "--shared-memory", "--json", *ports]
    with started(command, tmp_path) as server, urllib.request.urlopen(f"{server.ready['http']}/v2") as answer:  # noqa: S310
        assert "system_shared_memory" in json.loads(answer.read())["extensions"]
