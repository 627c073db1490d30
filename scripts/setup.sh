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
# What the program, or a part of its tests, goes without where it cannot be had.
USEFUL=""
want() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || USEFUL="$USEFUL $2"; }
want mosquitto mosquitto # the embedded MQTT broker
if [ "${1:-}" = tests ]; then
    want mosquitto_pub mosquitto-clients # somebody else's MQTT client
    want chromium chromium               # the desk in a real browser
    want softhsm2-util softhsm2          # keys behind PKCS#11
    want pcscd pcscd                     # a real smart card service …
    [ -e /etc/reader.conf.d/vpcd ] || USEFUL="$USEFUL vsmartcard-vpcd" # … with a virtual reader
    # … and what its Python module is built with.
    want swig swig
    want gcc gcc
    [ -e /usr/include/PCSC/winscard.h ] || USEFUL="$USEFUL libpcsclite-dev"
    "$PYTHON" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
        USEFUL="$USEFUL python3-dev"
fi

cards() {
    [ "${1:-}" = tests ] || return 0
    .venv/bin/python -c 'import smartcard' 2>/dev/null && return 0
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
        -r requirements-cards.lock || echo "setup: going on without card readers (pyscard)" >&2
}

install() {
    echo "setup: installing Debian packages:$*"
    apt-get update -qq
    # shellcheck disable=SC2068 # a list of names, to be split
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $@ >/dev/null
}

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    [ -z "$NEEDED" ] || install "$NEEDED"
    # The service that comes with a package is not ours and is not started.
    if [ -n "$USEFUL" ]; then
        RUNLEVEL=1 install "$USEFUL" || echo "setup: going on without:$USEFUL" >&2
    fi
elif [ -n "$NEEDED" ]; then
    echo "setup: these Debian packages are missing:$NEEDED" >&2
    echo "setup: install them with   sudo apt-get install$NEEDED$USEFUL   and run the command again." >&2
    exit 1
elif [ -n "$USEFUL" ]; then
    echo "setup: going on without these Debian packages:$USEFUL" >&2
    echo "setup: for everything,   sudo apt-get install$USEFUL" >&2
fi

STAMP=.venv/.made-from
# Of pyproject.toml only what the environment is made from: a changed lint rule makes nothing anew.
WANT=$( { cat requirements.lock scripts/setup.sh; sed '/^\[tool/,$d' pyproject.toml; } | sha256sum | cut -d' ' -f1)-$(pwd | sha256sum | cut -c1-8)
if [ -x .venv/bin/headend ] && [ "$(cat $STAMP 2>/dev/null)" = "$WANT" ]; then
    cards "${1:-}"
    exit 0
fi
echo "setup: making .venv from requirements.lock (about a minute the first time)"
# A half-made environment is worse than none: start over when the stamp does not match.
rm -rf .venv
"$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
echo "$WANT" > $STAMP
cards "${1:-}"
echo "setup: done, the program is .venv/bin/headend"
