"""What is told of serving on a real CPU: from `serve`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bench.kit.told import Numbers, Record, Result, between, percent, plain

SOURCES = {"serve": "serve@host"}
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


def _in_time(result: Result, network: str, servers: Sequence[str]) -> str:
    """Return the largest share of what was sent that one of the servers answers within the objective, at any load."""
    loads = [each for server in servers for each in result.where(network=network, server=server) if "load" in each]
    return percent(max(each["goodput_hz"] * each["seconds"] / each["sent"] for each in loads), 1)


def _most_hz(result: Result, network: str, servers: Sequence[str]) -> str:
    """Return the most answers a second within the objective that one of the servers gives, at any load, held or not."""
    return plain(max(hz for server in servers for hz in result.column("goodput_hz", network=network, server=server)))


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


def _numbers(network: str, key: str) -> Numbers:
    """Return what is told of one network under its short name."""
    return {
        f"serve.{key}.best": lambda r: plain(_sum(r, network)["best_ratio"], 2),
        f"serve.{key}.load": lambda r: plain(_sum(r, network)["best_load"], 1),
        f"serve.{key}.peers": partial(_peers, network=network),
        f"serve.{key}.peers_in_time": partial(_in_time, network=network, servers=PEERS),
        f"serve.{key}.in_time": partial(_in_time, network=network, servers=("amble",)),
        f"serve.{key}.peers_most": partial(_most_hz, network=network, servers=PEERS),
        f"serve.{key}.most": partial(_most_hz, network=network, servers=("amble",)),
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
}
TABLES: Numbers = {}
