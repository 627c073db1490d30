# Two commands set up a fresh machine: `make demo` and `make test`. Everything else is for us.
PY = .venv/bin/python

.PHONY: help setup demo test check unit bench fuzz screens lock clean

help:            ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

setup:           ## make .venv from the locked requirements
	@sh scripts/setup.sh

demo: setup      ## a virtual property, one night read now, then http://127.0.0.1:8080/docs
	@.venv/bin/headend demo

test:            ## everything: style, types, import contracts, tests
	@sh scripts/setup.sh tests
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory unit

check: setup     ## ruff, mypy strict, import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

unit: setup      ## the tests alone; PYTEST_ARGS="-k nights" narrows them
	$(PY) -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

bench: setup     ## the tables of bench/ (takes some minutes)
	$(PY) -m bench

fuzz: setup      ## coverage-guided fuzzing of the codecs for FUZZ_SECONDS (default 60)
	sh scripts/fuzz.sh $(FUZZ_SECONDS)

screens: setup   ## take the pictures of the README from the demonstration
	$(PY) scripts/screens.py

lock:            ## write requirements.lock anew from pyproject.toml
	sh scripts/lock.sh

clean:           ## remove what the commands above made
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
