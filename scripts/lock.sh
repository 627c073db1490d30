#!/bin/sh
# Writes requirements.lock from pyproject.toml: exact versions, each with its hashes, no registry named.
set -eu
cd "$(dirname "$0")/.."
TOOLS=$(mktemp -d)
trap 'rm -rf "$TOOLS"' EXIT
python3 -m venv "$TOOLS"
"$TOOLS/bin/pip" install --quiet pip-tools
"$TOOLS/bin/pip-compile" --quiet --generate-hashes --strip-extras --allow-unsafe --extra dev \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
    --output-file requirements.lock pyproject.toml
