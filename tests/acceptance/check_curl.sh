#!/bin/bash
# Usage: check_curl.sh URL MODEL [option of payload.py ...]      Environment: AMBLE_CA AMBLE_KEY
# Health, metadata and an answer by curl; with AMBLE_KEY also that nothing is answered without it, and with AMBLE_CA
# that a server whose certificate nobody vouches for is not spoken to.
set -euo pipefail
[ $# -ge 2 ] || { sed -n 2p "$0" >&2; exit 2; }
command -v curl >/dev/null || { echo '{"client": "curl", "ok": false, "unusable": "curl not found"}'; exit 2; }
here=$(dirname "$(realpath "$0")")
url=${1%/}; model=$2; shift 2
failures=()
trusting=(${AMBLE_CA:+--cacert "$AMBLE_CA"})
asking=(curl --silent --show-error --max-time 20 --output /dev/null --write-out '%{http_code}' "${trusting[@]}")
keyed=("${asking[@]}" ${AMBLE_KEY:+--header "Authorization: Bearer $AMBLE_KEY"})
expect() {  # expect NAME STATUS command ...
    local name=$1 wanted=$2 got; shift 2
    got=$("$@") || true
    [ "$got" = "$wanted" ] || failures+=("$name: HTTP $got, expected $wanted")
}
infer=$url/v2/models/$model/infer
body=$(python3 "$here/payload.py" --url "$url" --model "$model" "$@")
expect live 200 "${asking[@]}" "$url/v2/health/live"
expect head 200 "${keyed[@]}" --head "$url/v2/models/$model"
expect metadata 200 "${keyed[@]}" "$url/v2/models/$model"
expect infer 200 "${keyed[@]}" --data-binary @- "$infer" <<< "$body"
expect unknown 404 "${keyed[@]}" "$url/v2/models/no-such-model"
if [ -n "${AMBLE_KEY:-}" ]; then
    expect no-key 401 "${asking[@]}" --data-binary @- "$infer" <<< "$body"
    expect other-key 401 "${asking[@]}" --header 'X-API-Key: 0123456789abcdef' "$url/v2/models/$model"
fi
if [ -n "${AMBLE_CA:-}" ]; then
    curl --silent --max-time 20 --output /dev/null "$url/v2/health/live" && failures+=("untrusted: it was spoken to")
    curl --silent --max-time 20 --output /dev/null "http${url#https}/v2/health/live" && failures+=("plain: it was answered")
fi
if [ ${#failures[@]} -eq 0 ]; then
    echo '{"client": "curl", "ok": true}'
else
    printf '{"client": "curl", "ok": false, "failures": ["%s"]}\n' "${failures[*]}"; exit 1
fi
