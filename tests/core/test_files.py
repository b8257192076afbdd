"""Artefacts are written whole or not at all, and read only as what they are."""

import json
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from amble.core import files
from amble.core.errors import Refused
from amble.core.files import Format


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    values: tuple[float, ...]
    note: str | None = None


THING = Format("thing", 2, Thing)


def test_an_artefact_comes_back_as_it_was(tmp_path: Path) -> None:
    thing = Thing("a", (1.0, 2.5e-9, float(2**53)))
    files.save(thing, tmp_path / "deep" / "thing.json", THING)
    assert files.load(tmp_path / "deep" / "thing.json", THING) == thing
    assert files.kind_of(tmp_path / "deep" / "thing.json") == "thing"


def test_a_file_says_where_it_comes_from(tmp_path: Path) -> None:
    files.save(Thing("a", ()), tmp_path / "thing.json", THING)
    document = json.loads((tmp_path / "thing.json").read_text())
    assert document["format"] == 2
    assert {"created", "amble", "python", "command"} <= document["provenance"].keys()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a file of amble"),
        ('{"kind": "other", "format": 2}', "holds a other, not a thing"),
        ('{"kind": "thing", "format": 1, "thing": {}}', "format 1"),
        ('{"kind": "thing", "format": 2, "thing": {"name": "a", "values": ["x"]}}', r"values\[0\]"),
        ('{"kind": "thing", "format": 2}', "not a whole thing"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "thing.json"
    path.write_text(text)
    with pytest.raises(Refused, match=reason) as caught:
        files.load(path, THING)
    assert "thing.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        files.load(tmp_path / "none.json", THING)


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.mkdir()
    (path / "inside").touch()
    with pytest.raises(Refused, match="cannot save"):
        files.save(Thing("a", ()), path, THING)
    assert [each.name for each in tmp_path.iterdir()] == ["thing.json"]


def test_a_write_that_the_system_stops_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    files.save(Thing("old", ()), path, THING)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard := resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(Refused, match="File too large"):
            files.save(Thing("new" * 10_000, ()), path, THING)
    finally:
        signal.signal(signal.SIGXFSZ, before)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert files.load(path, THING).name == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["thing.json"]
