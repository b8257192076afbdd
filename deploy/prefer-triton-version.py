#!/usr/bin/env python3
"""Let Triton serve one of two versions of a model: a program for `amble govern --variants`.

    amble govern http://127.0.0.1:8002/metrics ... --variants 'prefer-triton-version.py http://127.0.0.1:8000 NAME 1 2'

1 and 2 are versions in the model's folder: the one that answers now, and the faster one. Triton has to be started with
--model-control-mode=explicit and --load-model=NAME. It loads one version before it lets the other go, so that no
request is refused meanwhile.
"""

import json
import sys
import urllib.request


def ask(url: str, body: object = None) -> bytes:
    """Ask Triton."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(asked, timeout=9.0) as answer:  # noqa: S310  the address is the user's own
        return answer.read()


def main(url: str, name: str, found: str, faster: str, word: str) -> str:
    """Let this version answer; return what went wrong."""
    if word not in ("found", "faster"):
        return f"{word!r} is neither found nor faster"
    version = {"found": found, "faster": faster}[word]
    try:
        config = json.loads(ask(f"{url}/v2/models/{name}/config"))
        if config.get("version_policy") == {"specific": {"versions": [version]}}:
            return ""
        config["version_policy"] = {"specific": {"versions": [version]}}
        ask(f"{url}/v2/repository/models/{name}/load", {"parameters": {"config": json.dumps(config)}})
        ask(f"{url}/v2/models/{name}/versions/{version}/ready")
    except OSError as error:
        return f"{url}: {error}"
    return ""


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]) or 0)
