"""Files that an older version wrote are still read, as what they were about."""

import json
from pathlib import Path

import pytest

from amble.core.errors import Refused
from amble.core.subject import Subject, Where
from amble.jobs import artefacts
from amble.levers.memory.partitions import DramPlan
from amble.levers.widths.results import Pruning

OLDER = Path(__file__).parents[1] / "core" / "older"
KINDS = sorted(path.stem.removesuffix("-1") for path in OLDER.glob("*-1.json"))
_NAMES = {"graph": "network"}
_SUBJECT, _WHERE = ("graph", "network", "source", "digest", "batch", "shapes"), ("device", "calibration")


def held(kind: str) -> dict[str, object]:
    document = json.loads((OLDER / f"{kind}-1.json").read_text())
    assert (document["kind"], document["format"]) == (kind, 1)
    return dict(document[kind])


def test_there_is_an_older_file_of_every_kind_that_has_changed() -> None:
    changed = {form.kind for form in artefacts.FORMATS.values() if form.upgrades}
    assert changed == set(KINDS)


@pytest.mark.parametrize("kind", [each for each in KINDS if each != "dram"])  # a mapping names no device
def test_an_older_file_is_read_as_what_it_was_about(kind: str) -> None:
    found, old = artefacts.read(OLDER / f"{kind}-1.json"), held(kind)
    where: Where = found.where  # type: ignore[union-attr]
    assert all(getattr(where, name) == old[name] for name in _WHERE if name in old)
    if kind == "staircases":  # of layers, not of a network
        return
    subject: Subject = found.subject  # type: ignore[union-attr]
    for name in _SUBJECT:
        if name in old:
            value = getattr(subject, _NAMES.get(name, name))
            assert (json.loads(json.dumps(value)) if name == "shapes" else value) == old[name]


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_file_written_anew_is_of_this_format_and_says_the_same(kind: str, tmp_path: Path) -> None:
    found = artefacts.read(OLDER / f"{kind}-1.json")
    artefacts.save(found, tmp_path / "new.json")
    assert json.loads((tmp_path / "new.json").read_text())["format"] == artefacts.FORMATS[kind].version
    assert artefacts.read(tmp_path / "new.json") == found
    assert artefacts.show(artefacts.read(tmp_path / "new.json")) == artefacts.show(found)


def test_what_an_older_mapping_moved_is_read_without_the_layers_that_it_did_not_name() -> None:
    found, old = artefacts.read(OLDER / "dram-1.json"), held("dram")
    assert isinstance(found, DramPlan)
    assert (found.energy_j, found.layers) == (old["energy_j"], ())
    assert old["layers"]


def test_the_cpu_that_older_variants_were_judged_on_is_not_lost() -> None:
    found, old = artefacts.read(OLDER / "variants-1.json"), held("variants")
    machine = found.where.machine  # type: ignore[union-attr]
    assert machine is not None
    assert [machine.architecture, list(machine.instructions), machine.saturates] == list(old["processor"].values())  # type: ignore[attr-defined]


def test_the_table_inside_an_older_pruning_is_read_too() -> None:
    found = artefacts.read(OLDER / "pruning-1.json")
    assert isinstance(found, Pruning)
    assert found.table == artefacts.read(OLDER / "staircases-1.json")


@pytest.mark.parametrize("number", [0, 3, "1", None])
def test_a_format_that_nobody_can_read_is_refused_with_those_that_can(number: object, tmp_path: Path) -> None:
    document = json.loads((OLDER / "schedule-1.json").read_text())
    (tmp_path / "odd.json").write_text(json.dumps(document | {"format": number}))
    with pytest.raises(
        Refused, match=f"schedule format {number}, this amble reads formats 1 to 2; make the file again"
    ):
        artefacts.read(tmp_path / "odd.json")


@pytest.mark.parametrize("content", [[], None, "schedule", {"steps": []}])
def test_an_older_file_that_holds_something_else_is_refused(content: object, tmp_path: Path) -> None:
    document = json.loads((OLDER / "schedule-1.json").read_text())
    (tmp_path / "odd.json").write_text(json.dumps(document | {"schedule": content}))
    with pytest.raises(Refused, match="not a whole schedule"):
        artefacts.read(tmp_path / "odd.json")
