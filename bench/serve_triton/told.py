"""What is told of the doors beside a real Triton: from `serve_triton`."""

from __future__ import annotations

from statistics import median

from bench.kit.told import Numbers, Record, Result, plain

SOURCES = {"serve_triton": "serve_triton@host"}
DOORS = {"http": "HTTP", "grpc": "gRPC"}


def _ratio(result: Result, record: Record) -> float:
    """Return our rate over Triton's at one record of ours: the median over rounds."""
    same = {name: record[name] for name in ("door", "body", "model", "connections")}
    (other,) = result.where(server="triton", **same)
    pairs: list[tuple[float, float]] = list(zip(record["rate_hz"], other["rate_hz"], strict=True))
    return median(mine / theirs for mine, theirs in pairs if theirs)


def _table(result: Result) -> str:
    """Lay the ratios out: a line for each door, body and network, a column for each number of connections."""
    ours = [each for each in result.where(server="amble") if "rate_hz" in each]
    columns = sorted({each["connections"] for each in ours})
    lines = ["| rate over Triton's, by connections | " + " | ".join(map(str, columns)) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for door, body, model in dict.fromkeys((each["door"], each["body"], each["model"]) for each in ours):
        found = {
            each["connections"]: each
            for each in ours
            if (each["door"], each["body"], each["model"]) == (door, body, model)
        }
        cells = [f"{_ratio(result, found[each]):.2f}" if each in found else "" for each in columns]
        lines.append(f"| {DOORS[door]}, {body}, network of {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _overheads(result: Result) -> str:
    """Return what a request costs over what an echo and a copy cost, of each size of body."""
    return " and ".join(plain(each["ratio"], 1) for each in result.records if "overhead" in each)


def _goodputs(result: Result) -> str:
    """Return our highest goodput over Triton's, of each network."""
    found = [plain(each["value"], 2) for each in result.targets if "highest goodput" in each["target"]]
    return ", ".join(found[:-1]) + " and " + found[-1]


def _processor(result: Result, door: str, body: str) -> str:
    """Return what an answer takes of the processor, over what Triton's takes: the median over cases, of one network."""
    found = []
    for each in result.where(server="amble", door=door, body=body, model="0.2 ms"):
        (other,) = result.where(server="triton", door=door, body=body, model="0.2 ms", connections=each["connections"])
        found.append(median(each["processor_s"]) / median(other["processor_s"]))
    return plain(median(found), 2)


NUMBERS: Numbers = {
    "serve_triton.processor_grpc_4": lambda r: _processor(r, "grpc", "4 kB"),
    "serve_triton.processor_grpc_600": lambda r: _processor(r, "grpc", "600 kB"),
    "serve_triton.processor_http_4": lambda r: _processor(r, "http", "4 kB"),
    "serve_triton.processor_http_600": lambda r: _processor(r, "http", "600 kB"),
    "serve_triton.met": lambda r: r.met("rate over Triton's"),
    "serve_triton.overhead": _overheads,
    "serve_triton.goodput": _goodputs,
}
TABLES: Numbers = {"serve_triton.doors": _table}
