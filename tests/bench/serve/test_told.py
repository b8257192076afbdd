"""Other servers that narrowly miss the objective are told of."""

from bench.kit.told import Record, Result
from bench.serve.told import NUMBERS


def _load(server: str, load: float, goodput_hz: float) -> Record:
    counted = {"sent": 100, "seconds": 2.0, "goodput_hz": goodput_hz}
    return {"network": "mobilenetv2", "server": server, "load": load, **counted}


def test_the_best_share_in_time_of_any_other_server_is_told() -> None:
    found = Result([_load("mlserver", 0.2, 49.0), _load("ray", 0.2, 30.0), _load("amble", 0.2, 50.0)], [])
    assert NUMBERS["serve.mobilenet.peers_in_time"](found) == "98.0 %"
    assert NUMBERS["serve.mobilenet.peers_most"](found) == "49"
