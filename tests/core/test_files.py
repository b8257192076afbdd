"""Artefacts are written whole or not at all, and read only as what they are."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
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
    with small_files(4096), pytest.raises(Refused, match="File too large"):
        files.save(Thing("new" * 10_000, ()), path, THING)
    assert files.load(path, THING).name == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["thing.json"]


@contextmanager
def small_files(most_bytes: int) -> Iterator[None]:
    """Let the system stop every write beyond so many bytes of a file, as a full disk does."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        signal.signal(signal.SIGXFSZ, before)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a disk of 64 KiB; skipped where none may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "amble-test", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no disk may be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def renew(folder: Path, old: Collection[str], new: dict[str, bytes]) -> None:
    with files.renewed(folder, index="index.json", others=old) as made:
        for name, each in new.items():
            (made / name).write_bytes(each)


def content(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def test_a_full_disk_leaves_the_older_file_and_no_other(disk: Path) -> None:
    files.write_bytes(disk / "model.onnx", b"old" * 10_000)
    with pytest.raises(Refused, match=r"cannot save .*model\.onnx: No space left on device"):
        files.write_bytes(disk / "model.onnx", b"new" * 20_000)
    assert content(disk) == {"model.onnx": b"old" * 10_000}


def test_a_full_disk_leaves_an_older_set_as_it_was(disk: Path) -> None:
    old = {"a.onnx": b"a" * 10_000, "b.onnx": b"b" * 10_000, "index.json": b"a b"}
    for name, each in old.items():
        (disk / name).write_bytes(each)
    with pytest.raises(Refused, match="No space left on device"):
        renew(disk, old, {"a.onnx": b"A" * 10_000, "index.json": b"A", "c.onnx": b"C" * 50_000})
    assert content(disk) == old


def test_files_in_several_folders_are_replaced_together_or_not_at_all(disk: Path, tmp_path: Path) -> None:
    old = {tmp_path / "plan.json": b"old", disk / "plan.sh": b"old"}
    files.write_together({path: text for path, text in old.items()})  # noqa: C416  of any kind of path
    with pytest.raises(Refused, match=r"cannot save .*plan\.sh: No space left on device"):
        files.write_together({tmp_path / "plan.json": b"new", disk / "plan.sh": b"new" * 30_000})
    assert {path: path.read_bytes() for path in old} == old
    assert {each.name for each in (*disk.iterdir(), *tmp_path.iterdir())} == {"plan.json", "plan.sh", "disk"}
    files.write_together({tmp_path / "plan.json": b"new", disk / "plan.sh": b"new"})
    assert {path.read_bytes() for path in old} == {b"new"}


def test_a_full_disk_is_found_before_anything_is_done_for_it(disk: Path) -> None:
    files.try_writing(disk / "out.json")
    (disk / "full").write_bytes(b"0" * (16 * 4096))
    with pytest.raises(Refused, match="No space left on device"):
        files.try_writing(disk / "new" / "out.json")


def test_a_set_whose_writing_is_stopped_stays_as_it_was(tmp_path: Path) -> None:
    old = {"a.onnx": b"a", "index.json": b"a"}
    for name, each in old.items():
        (tmp_path / name).write_bytes(each)
    with small_files(4096), pytest.raises(Refused, match="File too large"):
        renew(tmp_path, old, {"index.json": b"A", "a.onnx": b"A" * 10_000})
    assert content(tmp_path) == old


def test_a_set_that_fails_half_way_leaves_no_index_beside_files_that_are_not_its_own(tmp_path: Path) -> None:
    old = {"m.onnx": b"a", "n.onnx": b"b", "index.json": b"m n"}
    for name, each in old.items():
        (tmp_path / name).write_bytes(each)
    (tmp_path / "p.onnx" / "inside").mkdir(parents=True)  # what cannot be replaced by a file
    with pytest.raises(Refused, match="cannot save"):
        renew(tmp_path, old, dict.fromkeys(("m.onnx", "p.onnx", "index.json"), b"new"))
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"m.onnx", "p.onnx"}
    assert (tmp_path / "m.onnx").read_bytes() == b"new"


def test_a_new_set_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx", "index.json", "mine.txt"):
        (tmp_path / name).write_bytes(b"old")
    renew(tmp_path, ("a.onnx", "b.onnx"), dict.fromkeys(("a.onnx", "index.json"), b"new"))
    assert content(tmp_path) == {"a.onnx": b"new", "index.json": b"new", "mine.txt": b"old"}
    assert (tmp_path / "a.onnx").stat().st_mode == (tmp_path / "mine.txt").stat().st_mode


def test_a_place_is_tried_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    files.try_writing(tmp_path / "new" / "deep" / "out.json")
    files.try_writing(tmp_path / "new", folder=True)
    for path, folder, why in (
        (tmp_path / "folder", False, "a folder, not a file"),
        (tmp_path / "file", True, "a file, not a folder"),
        (tmp_path / "file" / "below.json", False, "is not a folder"),
        (Path("/proc/none/out.json"), False, "may not be changed"),
    ):
        with pytest.raises(Refused, match=why):
            files.try_writing(path, folder=folder)
    assert {each.name for each in tmp_path.iterdir()} == {"file", "folder"}


def test_a_link_stays_a_link_and_what_is_no_file_takes_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_bytes(b"old")
    (tmp_path / "link.json").symlink_to("real.json")
    files.write_bytes(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"new"
    words = [sys.executable, "-c", "from amble.core import files; files.write_bytes('/dev/stdout', b'piped')"]
    assert subprocess.run(words, capture_output=True, check=True).stdout == b"piped"
    assert Path("/dev/stdout").is_symlink()
