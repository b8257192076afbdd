"""What is told of the doors beside a real Triton: from `serve_triton`."""

from __future__ import annotations

from statistics import median

from bench.kit.told import Numbers, Record, Result

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


def _limits(result: Result) -> str:
    """Lay out what is set beside a compiled echo, and goodput within an objective: a line for each target."""
    lines = ["| | wanted | measured |", "| --- | --- | --- |"]
    found = [each for each in result.targets if "rate over Triton's" not in each["target"]]
    lines += [f"| {each['target']} | {each['want']} | {each['value']:.2f} |" for each in found]
    return "\n".join(lines)


NUMBERS: Numbers = {"serve_triton.met": lambda r: r.met("rate over Triton's")}
TABLES: Numbers = {"serve_triton.doors": _table, "serve_triton.limits": _limits}
