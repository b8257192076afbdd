"""The verb fleet as a user meets it."""

import json

import pytest
from click.testing import CliRunner, Result

from amble.cli import main


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["fleet", *words], prog_name="amble")


def test_a_fleet_is_told_as_a_table_and_as_json():
    words = ("8xsim:v100", "8xsim:a100", "--load", "poisson:100000/s:2s", "--budget", "1500")
    told = run(*words)
    assert told.exit_code == 0, told.stderr
    assert "16 simulated devices" in told.stdout
    assert "budget 1500 W" in told.stdout
    found = json.loads(run(*words, "--json").stdout)
    assert found["rows"][0]["policy"] == "amble"
    assert found["rows"][0]["most_w"] <= 1500


def test_a_dry_run_simulates_nothing():
    told = run("8xsim:v100", "--load", "poisson:1000/s:2s", "--dry-run")
    assert told.exit_code == 0
    assert "would simulate 8xsim:v100" in told.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("8xsim:v100", "--load", "poisson:1000/s:1s", "--budget", "100"), "give at least 264 W"),
        (("8xhost", "--load", "poisson:1000/s:1s"), "write 200xsim:v100"),
        (("8xsim:v100", "--load", "often"), "is of no known kind"),
        (("8xsim:v100", "--load", "poisson:1000/s:1s", "--deadline", "100"), "has no unit"),
        ((), "Missing argument"),
    ],
)
def test_what_is_refused_says_why_and_ends_with_two(words, what):
    told = run(*words)
    assert told.exit_code == 2
    assert what in told.stderr
