"""INT8 made for one kind of CPU and opened on another: said, and refused where answers are known to differ."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amble.core import files
from amble.core.errors import Refused
from amble.core.processor import Processor, Saturations
from amble.core.variants import FORMAT, Variants
from amble.levers.precision.quantizing import FILE, graphs, quantize
from amble.runtimes import processors
from amble.runtimes.saturation import saturates
from amble.services.serve.models.candidates import candidates
from amble.services.serve.models.options import Options
from tests.core.test_variants import result, variant
from tests.runtimes import models

VNNI = Processor("x86_64", ("avx2", "avx512_vnni"), saturates=False)
AVX2 = Processor("x86_64", ("avx2",), saturates=True)
SOME, NONE_SEEN, NEVER = Saturations(1000, 7, True), Saturations(1000, 0, True), Saturations(0, 0, False)


def made(on: Processor | None, counted: Saturations | None, precision: str = "int8") -> Variants:
    found = result(replace(variant("a", precision, speedup=2.0), saturations=counted))
    return replace(found, where=replace(found.where, machine=on))


def checked(variants: Variants, on: Processor, caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.WARNING):
        processors.check(variants, variants.kept, Path("out/variants.json"), on)
    return caplog.text


def test_int8_that_is_known_to_lose_sums_here_is_refused_with_the_remedy() -> None:
    with pytest.raises(Refused, match=r"7 of 1,000 pairs.*amble quantize net\.onnx --data data\.npz .*-o out"):
        processors.check(made(VNNI, SOME), made(VNNI, SOME).kept, Path("out/variants.json"), AVX2)


@pytest.mark.parametrize(("on", "counted"), [(VNNI, NONE_SEEN), (VNNI, None), (None, None), (None, NONE_SEEN)])
def test_int8_that_may_lose_sums_here_is_said(
    on: Processor | None, counted: Saturations | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert "a may lose INT8 sums on this CPU" in checked(made(on, counted), AVX2, caplog)


def test_what_was_judged_with_sums_cut_is_said_where_they_are_not(caplog: pytest.LogCaptureFixture) -> None:
    assert "judged on a CPU that cuts INT8 sums" in checked(made(AVX2, SOME), VNNI, caplog)


@pytest.mark.parametrize("counted", [NEVER, SOME])
def test_times_of_another_cpu_are_said_and_answers_that_stay_are_not(
    counted: Saturations, caplog: pytest.LogCaptureFixture
) -> None:
    told = checked(made(VNNI, counted, "int8" if counted is NEVER else "fp16"), AVX2, caplog)
    assert "times and choices are of another CPU" in told
    assert "INT8 sums on this CPU" not in told


@pytest.mark.parametrize("on", [VNNI, AVX2])
def test_on_the_same_kind_of_cpu_nothing_is_said(on: Processor, caplog: pytest.LogCaptureFixture) -> None:
    assert checked(made(on, SOME), on, caplog) == ""


def test_an_old_file_is_read_and_says_nothing_where_sums_are_exact(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files.save(made(None, None), tmp_path / FILE, FORMAT)
    assert checked(files.load(tmp_path / FILE, FORMAT), VNNI, caplog) == ""


def test_this_machine_knows_itself() -> None:
    assert processors.here().saturates is saturates()
    assert str(processors.here()).endswith("INT8 pairs cut at 16 bits" if saturates() else "INT8 sums exact")


def quantized(folder: Path, cpu: Processor, **wishes: Any) -> Variants:
    source = models.saved(folder, models.cnn(), "net.onnx")
    x = np.random.default_rng(0).standard_normal((60, 16, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    data, output = folder / "data.npz", folder / "out"
    return quantize(source, data=data, device="host", output=output, max_loss="100pt", rounds=6, processor=cpu)


def test_what_cannot_saturate_is_tried_where_sums_are_cut(tmp_path: Path) -> None:
    found = quantized(tmp_path, AVX2)
    wanted = {"int8-u8s7", "int8-u8u8", "int8-u8s7-clipped", "int8-dynamic-s7"}
    assert wanted < {each.name for each in found.variants}
    assert found.where.machine == AVX2
    for each in found.variants:
        if each.name in wanted:
            assert each.saturations == Saturations(0, 0, False)
            assert each.speedup is not None
    eight = found.variant("int8-u8s8")
    assert eight.saturations is not None
    assert eight.saturations.saturated > 0
    assert f"{eight.saturations.saturated:,} of" in eight.reason
    assert "are cut at 16 bits on this CPU" in eight.reason


def test_a_file_of_another_cpu_is_not_opened_in_silence(tmp_path: Path) -> None:
    found = quantized(tmp_path, VNNI)
    assert not any("s7" in each.name for each in found.variants)
    assert "would be cut at 16 bits on a CPU without VNNI" in found.variant("int8-u8s8").reason
    kept = [replace(each, verdict="kept", file="../net.onnx") for each in found.variants if each.name == "int8-u8s8"]
    path = tmp_path / "out" / FILE
    files.save(replace(found, variants=(found.reference, *kept)), path, FORMAT)
    with pytest.raises(Refused, match="make it anew on this machine: amble quantize"):
        graphs(path, processor=AVX2)
    assert set(graphs(path, processor=VNNI)) == {"fp32", "int8"}


def test_the_server_does_not_open_them_in_silence_either(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = processors.here()
    other = replace(here, saturates=not here.saturates, instructions=("of another",))
    path = tmp_path / FILE
    files.save(made(other, SOME), path, FORMAT)
    if here.saturates:
        with pytest.raises(Refused, match="make it anew"):
            candidates(path, Options())
    else:
        candidates(path, Options())
        assert "judged on a CPU that cuts INT8 sums" in caplog.text
