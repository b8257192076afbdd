#!/bin/bash
# Usage: check_schemathesis.sh PROGRAM URL      Fuzzes every call of the OpenAPI document that changes nothing.
# 503 is an answer of `ready` and of a full server, so those calls are left to the other clients.
set -uo pipefail
folder=$(mktemp -d) && cd "$folder" && trap 'rm -rf "$folder"' EXIT    # it keeps notes where it runs
[ $# = 2 ] || { sed -n 2p "$0" >&2; exit 2; }
[ -x "$1" ] || { echo '{"client": "schemathesis", "ok": false, "unusable": "schemathesis not found"}'; exit 2; }
"$1" run "$2/v2/openapi.json" --url "$2" --max-examples 25 --seed 1 --phases examples,coverage,fuzzing \
    --exclude-path-regex 'load|/ready' --no-color --checks \
    not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance >&2
code=$?
printf '{"client": "schemathesis", "ok": %s}\n' "$([ $code = 0 ] && echo true || echo false)"
exit $code
