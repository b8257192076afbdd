"""What is told of serving on a real CPU: from `serve` and `precision_on_host`."""

from __future__ import annotations

from functools import partial

from told import Numbers, Record, Result, between, percent, plain

SOURCES = {"serve": "serve@host", "precision": "precision_on_host@host"}
NETWORKS = ("mobilenetv2", "efficientnet_lite0")
PEERS = ("mlserver", "litserve", "ray")
NO_GOODPUT = "no goodput at this objective"


def _sum(result: Result, network: str, server: str = "amble") -> Record:
    (found,) = (each for each in result.where(network=network, server=server) if "best_ratio" in each)
    return found


def _grpc(result: Result, network: str) -> Record:
    (found,) = (each for each in result.where(network=network) if "grpc_s" in each)
    return found


def _ms(seconds: float, wanted: float = 1.0) -> str:
    told = f"{1e3 * seconds:.2f} ms"
    return told if 1e3 * seconds < wanted else f"**{told}**"


def _share(ratio: float) -> str:
    return plain(ratio, 2) if ratio else NO_GOODPUT


def _peers(result: Result, network: str) -> str:
    shares = [_share(_sum(result, network, each)["best_ratio"]) for each in PEERS]
    return shares[0] if len(set(shares)) == 1 else ", ".join(shares)


def _refused(result: Result, load: float) -> str:
    """Return the share of what was sent that our server did not answer at a load."""
    found = [result.where(network=each, server="amble", load=load)[0] for each in NETWORKS]
    return between([1.0 - each["answered"] / each["sent"] for each in found], scale=100, unit="%")


def _answered_in_time(result: Result, load: float) -> str:
    """Return the share of our server's answers at a load that are within the objective."""
    found = [result.where(network=each, server="amble", load=load)[0] for each in NETWORKS]
    return between([each["goodput_hz"] * each["seconds"] / each["answered"] for each in found], scale=100, unit="%")


def _over_any(result: Result) -> str:
    """Return the goodput at overload over the highest at any lower load, held or not."""
    found = []
    for network in NETWORKS:
        loads = result.where(network=network, server="amble")
        lower = max(each["goodput_hz"] for each in loads if each.get("load", 9.0) <= 1.0)
        found.append(result.where(network=network, server="amble", load=1.5)[0]["goodput_hz"] / lower)
    return between(found, 2)


def _run(result: Result, clock: str, governor: str) -> list[Record]:
    """Return the steps up to the highest that was held."""
    found = []
    for each in result.where(clock=clock, governor=governor):
        if not each["held"]:
            break
        found.append(each)
    return found


def _held(result: Result, clock: str, governor: str) -> str:
    return plain(result.value("rate held over", f", {governor}, {clock} clock"), 1)


def _int8(result: Result, governor: str) -> str:
    clocks = dict.fromkeys(each["clock"] for each in result.where(governor=governor))
    shares = [each["int8_share"] for clock in clocks for each in _run(result, clock, governor)]
    return between(shares, scale=100, unit="%")


def _bound_held(result: Result) -> str:
    """Return the rate that is held where the budget binds, over FP32's alone on the same clock."""
    alone, bound = (_run(result, "cpu", each)[-1]["rate_hz"] for each in ("max", "amble-bound"))
    return plain(bound / alone, 1)


def _accuracy(result: Result, governor: str) -> str:
    return percent(min(result.values("accuracy over FP32's", f", {governor}, ")), 2)


def _numbers(network: str, key: str) -> Numbers:
    """Return what is told of one network under its short name."""
    return {
        f"serve.{key}.best": lambda r: plain(_sum(r, network)["best_ratio"], 2),
        f"serve.{key}.load": lambda r: plain(_sum(r, network)["best_load"], 1),
        f"serve.{key}.peers": partial(_peers, network=network),
        f"serve.{key}.http": lambda r: _ms(_sum(r, network)["overhead_bare_s"]),
        f"serve.{key}.http_own": lambda r: _ms(_sum(r, network)["overhead_s"], 1e9),
        f"serve.{key}.grpc": lambda r: _ms(_grpc(r, network)["grpc_s"]),
        f"serve.{key}.overload": lambda r: f"**{percent(_sum(r, network)['overload_ratio'])}**",
    }


NUMBERS: Numbers = {
    **_numbers("mobilenetv2", "mobilenet"),
    **_numbers("efficientnet_lite0", "efficientnet"),
    "serve.bare": lambda r: between([r.where(network=each, load=1.0)[0]["bare_s"] for each in NETWORKS], scale=1e3),
    "serve.peers_overload": lambda r: percent(
        max(_sum(r, network, each)["overload_ratio"] for network in NETWORKS for each in PEERS), 1
    ),
    "serve.refused_at_1": partial(_refused, load=1.0),
    "serve.refused_at_35": partial(_refused, load=0.35),
    "serve.answered_in_time": partial(_answered_in_time, load=1.0),
    "serve.over_any": _over_any,
    "serve.ideal": lambda r: between([_sum(r, each)["ideal_overload_ratio"] for each in NETWORKS], scale=100, unit="%"),
    "serve.barest": lambda r: plain(1e3 * max(_grpc(r, each)["barest_grpc_s"] for each in NETWORKS), 1),
    "precision.amble_cpu": partial(_held, clock="cpu", governor="amble"),
    "precision.amble_wall": partial(_held, clock="wall", governor="amble"),
    "precision.pit_cpu": partial(_held, clock="cpu", governor="pit"),
    "precision.pit_wall": partial(_held, clock="wall", governor="pit"),
    "precision.accuracy": partial(_accuracy, governor="amble"),
    "precision.int8": partial(_int8, governor="amble"),
    "precision.int8_bound": partial(_int8, governor="amble-bound"),
    "precision.bound_ratio": lambda r: plain(r.value("rate held over", ", amble-bound, cpu clock"), 2),
    "precision.bound_held": _bound_held,
    "precision.bound_accuracy": partial(_accuracy, governor="amble-bound"),
    "precision.speedup": lambda r: plain(r.records[0]["speedup"], 1),
}
TABLES: Numbers = {}
