"""Variables and configuration files: they name options as the command line does, and nothing is dropped unseen."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from amble.cli import main
from amble.cli.settings import long_name, refuse_unknown_variables
from amble.core.names import distance

ROOT = Path(__file__).parents[2]
DRY = ["check", "plan.json", "-d", "sim:jetson-tx2", "--dry-run", "--json"]


def run(words: list[str], **variables: str) -> Result:
    return CliRunner().invoke(main, words, env=variables)


def would(found: Result) -> str:
    assert found.exit_code == 0, found.output
    return str(json.loads(found.stdout)["would"])


def test_every_option_of_every_verb_can_be_set_by_the_variable_that_is_named_after_it() -> None:
    for verb, command in main.commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                name = f"AMBLE_{verb}_{long_name(option)}".upper().replace("-", "_")
                assert name in (option.envvar or ())


def test_an_option_whose_name_differs_in_the_code_is_set_by_variable_and_by_file(tmp_path: Path) -> None:
    assert "poisson:5/s:1s" in would(run(DRY, AMBLE_CHECK_LOAD="poisson:5/s:1s"))
    (tmp_path / "own.yaml").write_text("check: {load: 'poisson:7/s:1s'}\n")
    assert "poisson:7/s:1s" in would(run([*DRY, "--config", str(tmp_path / "own.yaml")]))


def test_a_variable_that_is_nearly_one_of_ours_is_an_error_that_names_it() -> None:
    for wrong, meant in (("AMBLE_CHECK_LAOD", "AMBLE_CHECK_LOAD"), ("AMBLE_CACHES", "AMBLE_CACHE")):
        found = run(DRY, **{wrong: "1"})
        assert found.exit_code == 2
        assert f"the variable {wrong} is none of amble's; {meant} is meant" in found.stderr


def test_a_variable_that_is_far_from_ours_is_a_warning() -> None:
    found = run(DRY, AMBLE_PLANNING_TOOL_HOME="1")
    assert would(found)
    assert "AMBLE_PLANNING_TOOL_HOME is none of amble's and is not used; the nearest is AMBLE_" in found.stderr


def test_a_variable_that_lacks_its_verb_is_a_warning_that_names_those_with_one() -> None:
    found = run(DRY, AMBLE_DEADLIN="30ms", AMBLE_BATCH="2")
    assert would(found)
    assert "AMBLE_DEADLIN is none of amble's and is not used; the nearest is AMBLE_CHECK_DEADLINE or" in found.stderr
    assert "or AMBLE_PLAN_BATCH or" in found.stderr


def test_variables_that_something_of_amble_reads_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    read = {
        name
        for path in (ROOT / "src").rglob("*.py")
        for name in re.findall(r"(?:environ\S*\(?\s*\[?|^[A-Z]+ = )\"(AMBLE_\w+)", path.read_text(), re.MULTILINE)
    }
    assert {"AMBLE_CACHE", "AMBLE_DATA", "AMBLE_EMULATED_CARD", "AMBLE_GUARD"} <= read
    for name in read:
        monkeypatch.setenv(name, "1")
    assert list(refuse_unknown_variables(main)) == []


def test_a_key_of_a_file_that_is_no_option_names_the_file_and_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    for text, told in (
        ("check: {laod: x}", "check has no option laod; is load meant?"),
        ("chekc: {load: x}", "names chekc, which is no verb; is check meant?"),
        ("check: [load]", "must map verbs to options"),
        ("- check", "must map verbs to options"),
    ):
        path.write_text(text)
        found = run([*DRY, "--config", str(path)])
        assert found.exit_code == 2
        assert f"{path}" in json.loads(found.stdout)["error"]
        assert told in json.loads(found.stdout)["error"]


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "--json", "--deadlin", "3ms"],
        ["plan", "synthetic:3", "--json"],
        ["pln", "--json"],
        ["measure", "synthetic:3", "-d", "sim:jetson-tx2", "--shape", "x", "--json"],
        ["quantize", "net.onnx", "-d", "host", "-o", "out", "--max-loss", "1", "--json"],
        ["prune", "net.onnx", "-d", "host", "--data", "d.npz", "-o", "out", "--json"],
        ["check", "plan.json", "-d", "sim:jetson-tx2", "-o", "/proc/none/report.json", "--json"],
        ["devices", "--json", "--config", "none.yaml"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_one_json_document_where_one_is_asked_for(words: list[str]) -> None:
    found = run(words)
    assert found.exit_code == 2
    assert json.loads(found.stdout)["error"]
    assert json.loads(found.stdout)["error"] in " ".join(found.stderr.split())
    assert run([word for word in words if word != "--json"]).stdout == ""


def test_help_and_version_end_with_0_also_beside_json() -> None:
    assert run(["plan", "--help", "--json"]).exit_code == 0
    assert run(["--version"]).exit_code == 0


def test_all_that_is_wrong_with_shapes_is_told_at_once() -> None:
    words = ["--shape", "ids", "--shape", "mask:1,0", "--shape", "x:1", "--shape", "x:2", "--json"]
    told = json.loads(run(["measure", "synthetic:3", "-d", "sim:jetson-tx2", *words]).stdout)["error"]
    assert all(each in told for each in ("'ids' is not like", "'mask:1,0' is not like", "'x' twice"))


@pytest.mark.parametrize("verb", ["quantize", "prune", "dram", "serve"])
def test_the_accuracy_that_may_be_lost_has_one_form_and_one_help(verb: str) -> None:
    (option,) = [each for each in main.commands[verb].params if each.name == "max_loss"]
    assert isinstance(option, click.Option)
    assert option.help == "Accuracy that may be lost: points of 100 (1pt), or a share of what there is (0.5%)."
    for text in ("1pt", "0.5%"):
        assert option.type.convert(text, option, None) == text
    for text in ("1", "0.5", "-1pt", "1 percent"):
        with pytest.raises(click.BadParameter, match="write 1pt"):
            option.type.convert(text, option, None)


def test_letters_apart() -> None:
    assert [distance("load", each) for each in ("load", "laod", "loa", "loads", "road", "")] == [0, 1, 1, 1, 1, 4]


@pytest.mark.parametrize("option", ["-o", "--html", "--design-space"])
def test_a_place_of_prune_that_cannot_be_written_is_found_before_the_work(option: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["prune", "none.onnx", "-d", "host", "--data", "none.npz", "--latency", "0.7x", "-o", str(tmp_path / "out")]
    found = run([*words, option, str(tmp_path / "file" / "below")])
    assert found.exit_code == 2
    assert "is not a folder" in found.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"file"}


PLACES = ("output", "html", "csv", "script", "trace", "hardened", "design_space")


def test_every_option_that_names_a_file_to_be_written_tries_it_first() -> None:
    from amble.cli.options import Place

    found = {
        f"{verb} {option.name}": isinstance(option.type, Place)
        for verb, command in main.commands.items()
        for option in command.params
        if option.name in PLACES and not (isinstance(option, click.Option) and option.is_flag)
    }
    assert len(found) > 10
    assert [name for name, tries in found.items() if not tries] == []


NO_HOME = """
import os, pwd, sys
os.environ.pop("HOME", None)
pwd.getpwuid = {}.__getitem__
from amble.cli import main
main(sys.argv[1:])
"""


def nowhere(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a verb as a user whom the machine does not know and who has no HOME, as in a container."""
    command = [sys.executable, "-c", NO_HOME, *words]
    given = {name: text for name, text in os.environ.items() if not name.startswith(("XDG_", "AMBLE_"))} | variables
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=120, check=False)


def test_a_user_without_a_home_needs_one_only_where_files_are_kept(tmp_path: Path) -> None:
    assert nowhere(tmp_path, "--help").returncode == 0
    assert nowhere(tmp_path, "devices", XDG_STATE_HOME=str(tmp_path)).returncode == 0
    found = nowhere(tmp_path, "restore")
    assert found.returncode == 2
    assert "no home folder to keep files in; let HOME name one" in found.stderr
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.glob("~"))
