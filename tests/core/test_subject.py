"""What artefacts of the first format had of their own becomes one noun each; nothing else changes."""

from __future__ import annotations

from amble.core.subject import gathered, placed


def test_fields_of_the_first_format_are_gathered_under_their_new_names() -> None:
    old = {"graph": "net", "source": "net.onnx", "batch": 2, "device": "host", "processor": None, "samples": [1]}
    assert gathered(old) == {
        "subject": {"network": "net", "source": "net.onnx", "batch": 2},
        "where": {"device": "host", "machine": None},
        "samples": [1],
    }


def test_what_is_about_no_network_gets_a_place_alone() -> None:
    assert placed({"device": "sim:a", "graph": "kept"}) == {"where": {"device": "sim:a"}, "graph": "kept"}
    assert placed({"left": 1}) == {"left": 1, "where": {}}
