#!/bin/sh
# Fuzzes the codecs for some seconds (default 60), coverage-guided, starting from the kept corpus.
# The fuzzer has its own environment under build/: not every machine has a wheel of it.
set -eu
cd "$(dirname "$0")/.."
SECONDS_MAX=${1:-60}
VENV=build/fuzz/venv
if [ ! -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -c 'import aiomqtt, atheris, cryptography, defusedxml, fastcrc' 2>/dev/null; then
    echo "fuzz: making $VENV"
    rm -rf "$VENV"
    "${PYTHON:-python3}" -m venv "$VENV"
    "$VENV/bin/pip" install --quiet --disable-pip-version-check 'atheris==3.0.0' 'fastcrc==0.5.0' \
        'cryptography==50.0.2' 'defusedxml==0.7.1' 'aiomqtt==2.5.1'
fi
mkdir -p build/fuzz/corpus build/fuzz/crashes
# New inputs go to the first folder; the kept corpus is only read. A crash is written and ends it:
# copy its file into tests/fuzz/corpus/ together with the fix.
exec "$VENV/bin/python" -m tests.fuzz.fuzz_codecs \
    -max_total_time="$SECONDS_MAX" -max_len=600 -timeout=10 -artifact_prefix=build/fuzz/crashes/ \
    build/fuzz/corpus tests/fuzz/corpus
