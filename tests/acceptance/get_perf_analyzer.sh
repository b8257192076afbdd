#!/bin/bash
# Usage: get_perf_analyzer.sh FOLDER     afterwards run FOLDER/perf_analyzer
#
# The wheel of perf_analyzer needs glibc 2.38 or newer. On an older system plain pip takes the empty package 0.1.0
# without a word, so the wheel is asked for by its tag here; and where glibc is older, the C library and what else the
# program needs are unpacked from Debian 13 into FOLDER, and its loader starts the program. Nothing is installed.
set -euo pipefail
version=${PERF_ANALYZER_VERSION:-2.60.0}
[ $# = 1 ] || { sed -n 2p "$0" >&2; exit 2; }
folder=$(realpath -m "$1")
program=$folder/wheel/perf_analyzer/bin/perf_analyzer
libraries=$folder/root/usr/lib/x86_64-linux-gnu
started=$folder/perf_analyzer

fetch() {
    mkdir -p "$folder/wheel"
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: \
        --platform manylinux_2_38_x86_64 -d "$folder" "perf-analyzer==$version"
    python3 -m zipfile -e "$folder/perf_analyzer-$version"*.whl "$folder/wheel"
    chmod +x "$program"
}

fetch_libraries() {  # from the mirror that this system uses, but of the next release
    local mirror
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
    [ -n "$mirror" ] || mirror=$(awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' \
        /etc/apt/sources.list)
    mkdir -p "$folder"/{lists/partial,cache/archives/partial,debs,root}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$folder/trixie.list"
    local apt=(apt-get -qq -o Dir::Etc::SourceList="$folder/trixie.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" -o APT::Sandbox::User=root)
    "${apt[@]}" update || {
        [ "${PERF_ANALYZER_TRUST:-0}" = 1 ] || {
            echo "this system's keyring does not know Debian 13: PERF_ANALYZER_TRUST=1 goes on without the check" >&2
            exit 2
        }
        sed -i 's/signed-by=[^]]*/trusted=yes/' "$folder/trixie.list"
        "${apt[@]}" update
    }
    (cd "$folder/debs" && "${apt[@]}" download libc6 libstdc++6 libgcc-s1 libssl3t64 zlib1g libzstd1)
    for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$folder/root"; done
}

[ -x "$program" ] || fetch
have=$(ldd --version | awk 'NR == 1 {print $NF}')
if [ "$(printf '%s\n' 2.38 "$have" | sort -V | head -1)" = 2.38 ]; then
    printf '#!/bin/bash\nexec %q "$@"\n' "$program" > "$started"
else
    command -v apt-get dpkg > /dev/null || { echo "glibc $have is older than 2.38 and there is no apt" >&2; exit 2; }
    [ -d "$libraries" ] || fetch_libraries
    printf '#!/bin/bash\nexec %q --library-path %q %q "$@"\n' \
        "$libraries/ld-linux-x86-64.so.2" "$libraries" "$program" > "$started"
fi
chmod +x "$started"
"$started" --version    # fails here if it cannot start; 2.60.0 calls itself 0.0.0
