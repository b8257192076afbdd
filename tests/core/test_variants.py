"""What may be lost, and what a result says of its variants."""

from pathlib import Path

import pytest

from amble.core import files
from amble.core.files import Format
from amble.core.report import Estimate, Share
from amble.core.subject import Subject, Where
from amble.core.variants import Allowance, Variant, Variants


def share(value: float) -> Share:
    return Share(round(100 * value), 100, Estimate(value, value - 0.02, value + 0.02))


def variant(name: str, precision: str, *, speedup: float, loss: float = 0.0, verdict: str = "kept") -> Variant:
    return Variant(
        name,
        precision,
        "made up",
        verdict,  # type: ignore[arg-type]
        "because",
        f"{name}.onnx",
        0.01 / speedup,
        Estimate(speedup),
        share(0.9 - loss / 100),
        Estimate(loss),
    )


def result(*variants: Variant) -> Variants:
    reference = Variant("fp32", "fp32", "as given", "reference", "", "net.onnx", 0.01, None, share(0.9))
    return Variants(
        subject=Subject(network="net", source="net.onnx", digest="0", batch=1, shapes={"x": (1, 4)}),
        where=Where(device="host", calibration="real"),
        allowed=Allowance(1.0),
        allowed_points=1.0,
        metric="accuracy",
        data="data.npz",
        num_calibration=10,
        num_judged=100,
        clock="the device's own time",
        variants=(reference, *variants),
        chosen="int8",
    )


@pytest.mark.parametrize(
    ("text", "points"), [("1pt", 1.0), ("0.5 pt", 0.5), ("0pt", 0.0), ("1%", 0.8), ("0.5%", 0.4), ("100%", 80.0)]
)
def test_an_allowance_is_in_points_or_in_a_share_of_what_there_is(text: str, points: float) -> None:
    assert Allowance.parse(text).points(0.8) == pytest.approx(points)


@pytest.mark.parametrize("text", ["1", "pt", "-1pt", "1 points", "nan%", "1pt%"])
def test_what_is_no_allowance_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write 1pt"):
        Allowance.parse(text)


@pytest.mark.parametrize("text", ["101%", "100.5pt"])
def test_no_more_may_be_lost_than_there_is(text: str) -> None:
    with pytest.raises(ValueError, match="more accuracy than there is; write at most 100pt or 100%"):
        Allowance.parse(text)


@pytest.mark.parametrize("text", ["1pt", "0.5%"])
def test_an_allowance_is_written_as_it_is_read(text: str) -> None:
    assert str(Allowance.parse(text)) == text


def test_the_fastest_of_a_precision_is_one_that_was_kept() -> None:
    found = result(
        variant("a", "int8", speedup=2.0),
        variant("b", "int8", speedup=3.0, verdict="refused"),
        variant("c", "int8", speedup=2.5),
    )
    assert found.fastest("int8").name == "c"
    assert found.fastest("fp32").name == "fp32"
    with pytest.raises(KeyError):
        found.fastest("fp16")


def test_relative_accuracy_is_a_share_of_the_references() -> None:
    lossy = variant("a", "int8", speedup=2.0, loss=1.8)
    found = result(lossy)
    assert found.relative(lossy) == pytest.approx(0.98)
    assert found.relative(found.reference) == 1.0


def test_a_result_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    form = Format("variants", 1, Variants)
    found = result(variant("int8", "int8", speedup=2.0, loss=0.3))
    files.save(found, tmp_path / "variants.json", form)
    assert files.load(tmp_path / "variants.json", form) == found
