#!/bin/sh
# Makes .venv from requirements.lock. Installs the Debian packages it needs when it may, and says so.
# Safe to run again: does nothing when .venv already matches the lock.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
# python3-venv: Debian ships Python without its venv module.
NEEDED=""
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || NEEDED="$NEEDED python3"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || NEEDED="$NEEDED python3-venv"

if [ -n "$NEEDED" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing Debian packages:$NEEDED"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $NEEDED >/dev/null
    else
        echo "setup: these Debian packages are missing:$NEEDED" >&2
        echo "setup: install them with   sudo apt-get install$NEEDED   and run the command again." >&2
        exit 1
    fi
fi

STAMP=.venv/.made-from
# Of pyproject.toml only what the environment is made from: a changed lint rule makes nothing anew.
WANT=$( { cat requirements.lock scripts/setup.sh; sed '/^\[tool/,$d' pyproject.toml; } | sha256sum | cut -d' ' -f1)-$(pwd | sha256sum | cut -c1-8)
if [ -x .venv/bin/headend ] && [ "$(cat $STAMP 2>/dev/null)" = "$WANT" ]; then
    exit 0
fi
echo "setup: making .venv from requirements.lock (about a minute the first time)"
# A half-made environment is worse than none: start over when the stamp does not match.
rm -rf .venv
"$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
echo "$WANT" > $STAMP
echo "setup: done, the program is .venv/bin/headend"
