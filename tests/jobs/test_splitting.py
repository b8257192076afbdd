"""A split from its request to its files: tables, hashes, halves that answer together; bad requests in one line."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import amble
from amble.core.errors import Infeasible, Refused
from amble.core.schedule import Deadline
from amble.jobs.splitting import Wanted, split, write
from amble.levers.split.link import RADIOS, Link, Radio
from tests.runtimes import models

AMBLE = Path(sys.executable).parent / "amble"
LINK = Link(20e6, 0.002, RADIOS["wifi"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.saved(tmp_path_factory.mktemp("model"), models.cnn())


def wanted(model: Path, **others: object) -> Wanted:
    asked = {"server": "8x", "link": LINK, "deadline": Deadline(0.05), **others}
    return Wanted(str(model), "sim:jetson-tx2", **asked)  # type: ignore[arg-type]


def test_both_halves_are_written_with_their_hashes_and_answer_as_the_network(tmp_path: Path) -> None:
    path = narrowing(tmp_path)
    made, halves = split(wanted(path, link=Link(1e8, 0.0, Radio("test", 0.0, 1e-8))))
    assert 0 < made.best.num_local < made.num_operators
    assert made.identical
    told = write(made, halves, tmp_path / "out")
    assert [each.place for each in told.halves] == ["device", "server"]
    for each in told.halves:
        assert hashlib.sha256((tmp_path / "out" / each.file).read_bytes()).hexdigest() == each.sha256
    assert amble.read(tmp_path / "out" / "split.json") == told
    feed = {"x": np.random.default_rng(1).standard_normal((1, 16, 64, 64)).astype(np.float32)}
    device, server, whole = (
        onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        for file in (tmp_path / "out" / "device.onnx", tmp_path / "out" / "server.onnx", path)
    )
    sent = dict(zip(told.sent, device.run(list(told.sent), feed), strict=True))
    expected = whole.run(None, feed)[0]
    np.testing.assert_allclose(server.run(None, sent)[0], expected, atol=1e-4 * np.abs(expected).max())


def narrowing(folder: Path) -> Path:
    """A large input, little after its first operators, and large weights in the rest: made to be cut in the middle."""
    nodes = [
        models.node("Conv", ["x", "w1"], ["c1"], kernel_shape=[4, 4], strides=[16, 16]),
        models.node("Relu", ["c1"], ["r1"]),
        models.node("Flatten", ["r1"], ["flat"]),
        models.node("MatMul", ["flat", "w2"], ["m2"]),
        models.node("MatMul", ["m2", "w3"], ["y"]),
    ]
    weights = [models.weight("w1", 4, 16, 4, 4), models.weight("w2", 64, 2048), models.weight("w3", 2048, 2048)]
    inputs, outputs = [models.value("x", [1, 16, 64, 64])], [models.value("y", [1, 2048])]
    return models.saved(folder, models.model(nodes, inputs, outputs, weights), "narrowing.onnx")


def test_the_tables_mark_the_best_and_tell_both_extremes(model: Path) -> None:
    cuts, rates = amble.show(split(wanted(model))[0])
    assert [row[-1] for row in cuts.rows].count("best") == 1
    assert cuts.rows[0][0] == "nothing (all remote)"
    assert cuts.rows[-1][0] == "everything (all local)"
    assert "no choice takes less than" in cuts.notes[0]
    assert any("predicted" in note for note in cuts.notes)
    assert any("bit for bit" in note for note in cuts.notes)
    assert rates.rows[0][2] == "everything (all local)"


def test_an_earlier_half_does_not_stay_beside_another_split(model: Path, tmp_path: Path) -> None:
    (tmp_path / "server.onnx").write_bytes(b"of an earlier split")
    made, halves = split(wanted(model, link=Link(2e3, 0.0, RADIOS["wifi"])))
    assert made.best.num_local == made.num_operators
    write(made, halves, tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["device.onnx", "split.json", "whole.onnx"]


def test_a_deadline_that_no_cut_keeps_is_infeasible(model: Path) -> None:
    with pytest.raises(Infeasible, match=r"no cut of model between .* the fastest takes") as caught:
        split(wanted(model, deadline=Deadline(1e-6)))
    assert caught.value.fastest_s > 1e-6


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"server": "http://127.0.0.1:8000"}, "is not asked for its times yet"),
        ({"server": "host"}, "host cannot be split for yet"),
    ],
)
def test_a_server_that_cannot_be_priced_is_refused(model: Path, others: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        split(wanted(model, **others))


def test_what_has_no_weights_is_refused() -> None:
    with pytest.raises(Refused, match="holds no weights"):
        split(wanted(Path("synthetic:5")))


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AMBLE, "split", *words], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("link", "said"),
    [("0Mbit/s", "rate of 0"), ("20MB/s", "counts bytes"), ("20", "no unit"), ("x.csv", "cannot read x.csv")],
)
def test_a_link_that_is_none_is_refused_with_exit_code_2(model: Path, link: str, said: str) -> None:
    found = call(str(model), "-d", "sim:jetson-tx2", "--server", "8x", "--link", link, "--deadline", "50ms")
    assert found.returncode == 2
    assert said in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_a_network_that_cannot_be_cut_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    alone = models.model([models.node("Relu", ["x"], ["y"])], [models.value("x", [1, 4])], [models.value("y", [1, 4])])
    path = models.saved(tmp_path, alone, "alone.onnx")
    found = call(str(path), "-d", "sim:jetson-tx2", "--server", "8x", "--link", "1Mbit/s", "--deadline", "50ms")
    assert found.returncode == 2
    assert "cannot be cut: it has a single operator" in found.stderr


def test_a_recorded_link_is_planned_for_at_all_its_rates(model: Path, tmp_path: Path) -> None:
    trace = tmp_path / "link.csv"
    trace.write_text("time_s,rate_kbit_s\n0,20000\n6,20\n8,0\n9,20000\n")
    words = (str(model), "-d", "sim:jetson-tx2", "--server", "8x", "--link", str(trace), "--deadline", "50ms", "--json")
    found = call(*words)
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["link"]["rate_bit_s"] == 2e7
    (note,) = [each for each in document["notes"] if "recorded link" in each]
    assert "in 10.0% nothing could be sent" in note
    assert len(document["pairs"]) > 1


def test_the_verb_prints_one_document(model: Path, tmp_path: Path) -> None:
    words = (str(model), "-d", "sim:jetson-tx2", "--server", "8x", "--link", "20Mbit/s", "--deadline", "50ms")
    found = call(*words, "--json", "-o", str(tmp_path / "out"), "--html", str(tmp_path / "split.html"))
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["best"]["choice"]["fits"] is True
    assert (tmp_path / "out" / "split.json").exists()
    page = tmp_path / "again.html"
    amble.export_files(amble.read(tmp_path / "out" / "split.json"), html=page)
    assert (tmp_path / "split.html").read_bytes() == page.read_bytes()
    assert "Latency and energy of every cut" in page.read_text()


def test_a_period_of_nothing_is_refused(model: Path) -> None:
    with pytest.raises(ValueError, match="a period shorter than the deadline"):
        split(wanted(model, period_s=0.0))


@pytest.mark.parametrize("server", ["0x", "nanx", "sim:none", "host", "http://127.0.0.1:1", "none.csv"])
def test_a_server_that_is_none_is_refused_before_the_device_is_measured(tmp_path: Path, server: str) -> None:
    unmeasured = models.saved(tmp_path, models.mlp((8, 40, 4)))

    def told(what: str, done: int, total: int) -> None:
        pytest.fail(f"{what} already")

    with pytest.raises(Refused):
        split(wanted(unmeasured, server=server), told)


@pytest.mark.parametrize("max_error", [float("nan"), float("inf"), -1.0])
def test_an_error_that_is_none_is_refused(max_error: float) -> None:
    with pytest.raises(ValueError, match=r"--max-error .* is no share"):
        Wanted("m.onnx", "sim:v100", "8x", Link(1e6, 0.01, RADIOS["wifi"]), Deadline(0.1), max_error=max_error)
