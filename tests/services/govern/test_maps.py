"""Every server is recognised by its page, and what its page says is read in SI units."""

import pytest

from amble.core.errors import Refused
from amble.services.govern.eyes import Eyes, Memory
from amble.services.govern.maps import load_map, probe, recognise
from amble.services.govern.objective import Objective
from amble.services.govern.page import names_of
from tests.services.govern.pages import PAGES

SERVERS = {
    "vllm": ("vLLM", "ttft p99 < 500ms"),
    "sglang": ("SGLang", "itl p99 < 50ms"),
    "tgi": ("TGI", "latency p90 < 2s"),
    "triton-25": ("Triton", "ttft p99 < 500ms"),
    "openvino": ("OpenVINO Model Server", "latency p99 < 40ms"),
    "kserve": ("KServe", "latency p99 < 50ms"),
    "mlserver": ("MLServer", "latency p99 < 50ms"),
    "trtllm": ("TensorRT-LLM", "ttft p99 < 500ms"),
    "ray": ("Ray Serve", "latency p99 < 50ms"),
    "amble": ("amble", "latency p99 < 50ms"),
}
CASES = [(page, *told) for page in PAGES for begin, told in SERVERS.items() if page.startswith(begin)]


@pytest.mark.parametrize(("page", "server", "objective"), CASES)
def test_a_page_is_recognised_and_its_110_answers_are_seen(page, server, objective):
    text = PAGES[page]
    found = recognise(names_of(text))
    assert found.server == server
    eyes = Eyes.open(found, (Objective.parse(objective),), text)
    memory, _ = eyes.look(Memory(), "\n".join(zeroed(text)), 0.0)
    _, look = eyes.look(memory, text, 1.0)
    assert look.usable, look.note
    assert look.finished == pytest.approx(110.0)
    assert sum(look.counts[0]) in (pytest.approx(110.0), pytest.approx(5085.0))  # requests, or tokens
    assert 5e-6 < eyes.edges_s[0][0] < 1.0, "edges are seconds"


@pytest.mark.parametrize(("page", "waiting", "arrivals"), [("triton-25", 6.0, 119.0), ("openvino", None, 113.0)])
def test_what_waits_in_a_back_end_counts_and_what_other_servables_took_does_not(page, waiting, arrivals):
    text = next(text for name, text in PAGES.items() if name.startswith(page))
    eyes = Eyes.open(recognise(names_of(text)), (Objective.parse(SERVERS[page][1]),), text)
    memory, _ = eyes.look(Memory(), "\n".join(zeroed(text)), 0.0)
    _, look = eyes.look(memory, text, 1.0)
    assert (look.waiting, look.arrivals) == (waiting, pytest.approx(arrivals))


def zeroed(text):
    """The same page of a server that has answered nothing yet."""
    for line in text.splitlines():
        yield line if line.startswith("#") else f"{line.rpartition(' ')[0]} 0"


def test_newer_names_are_preferred_to_older_ones():
    assert probe(names_of(PAGES["vllm-0.11"]), recognise(names_of(PAGES["vllm-0.11"]))).found["itl"] == (
        "vllm:inter_token_latency_seconds"
    )
    assert probe(names_of(PAGES["vllm-0.6"]), recognise(names_of(PAGES["vllm-0.6"]))).found["itl"] == (
        "vllm:time_per_output_token_seconds"
    )


@pytest.mark.parametrize("page", ["llama.cpp-b4000", "triton-24.04"])
def test_a_server_without_a_histogram_is_told_of_the_canary(page):
    text = PAGES[page]
    assert "--canary" in probe(names_of(text), recognise(names_of(text))).missing["latency"]
    with pytest.raises(Refused, match="--canary"):
        Eyes.open(recognise(names_of(text)), (Objective.parse("latency p99 < 40ms"),), text)


def test_a_page_of_an_unknown_server_is_refused_with_the_map_it_would_need():
    with pytest.raises(Refused, match=r"--map FILE.*my_seconds_bucket"):
        recognise(["my_requests_total", "my_seconds_bucket"])


def test_a_map_of_a_user_is_read(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(
        "server: mine\nseries: {finished: {names: [my_requests_total]}}\n"
        "latencies: {latency: {names: [my_ms], unit: ms}}\n"
    )
    text = 'my_requests_total 3\nmy_ms_bucket{le="40"} 3\nmy_ms_bucket{le="+Inf"} 3\n'
    eyes = Eyes.open(load_map(path), (Objective.parse("latency p99 < 40ms"),), text)
    assert eyes.edges_s == ((0.04,),)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("server: x\nseries: {arivals: {names: [a]}}", "series.arivals"),
        ("server: x\nseries: {}\nlatencies: {latency: {names: [a], unit: min}}", "unit 'min'"),
        ("server: x\nseries: {}\nlatencies: {speed: {names: [a]}}", "latencies.speed"),
        ("series: {}", "server"),
        ("server: [", "is not a map"),
    ],
)
def test_a_wrong_map_is_refused_with_the_key(tmp_path, text, named):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(Refused, match=named):
        load_map(path)
