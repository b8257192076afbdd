"""Options shared by verbs: what they refuse before any work is done."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from amble.cli import main
from amble.cli.group import Verbs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["measure", "net.onnx", "-d", "host", "-o", "net.onnx"], "--output would overwrite net.onnx, which is MODEL"),
        (
            ["measure", "net.onnx", "-d", "host", "-o", "link.onnx"],
            "--output would overwrite link.onnx, which is MODEL",
        ),
        (["dram", "net.onnx", "--data", "d.npz", "-o", "d.npz"], "--output would overwrite d.npz, which is --data"),
        (
            ["plan", "net.onnx", "--deadline", "9ms", "-o", "new.json", "--csv", "new.json"],
            "--csv would overwrite new.json, which is --output",
        ),
    ],
)
def test_nothing_is_written_over_what_is_read_or_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.onnx", "d.npz"):
        Path(name).write_text("kept")
    Path("link.onnx").symlink_to("net.onnx")
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 2
    assert message in found.output
    assert {Path(name).read_text() for name in ("net.onnx", "d.npz")} == {"kept"}


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["quantize", "net.onnx", "-d", "host", "--data", "d.npz", "-o", "q", "--alike"], "--alike"),
        (["budget", "http://127.0.0.1:1", "--watts"], "--watts"),
        (["fleet", "2xsim:v100", "--load", "poisson:1/s:1s", "--budget"], "--budget"),
    ],
)
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_no_number_is_in_no_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], option: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("net.onnx", "d.npz"):
        Path(name).write_text("kept")
    found = CliRunner().invoke(main, [*words, value, "--dry-run"])
    assert found.exit_code == 2
    assert f"Invalid value for '{option}': {value} is not" in found.output


def test_an_interruption_while_options_are_read_is_no_failure_but_one() -> None:
    def interrupt(context: click.Context, option: click.Parameter, value: object) -> None:
        raise KeyboardInterrupt

    verb = click.Command("verb", params=[click.Option(["--slow"], callback=interrupt)])
    found = CliRunner().invoke(Verbs("amble", commands={"verb": verb}), ["verb"])
    assert found.exit_code == 130
    assert "amble: interrupted" in found.stderr
