# Everything a developer or CI does, by name. Needs Python 3.11+ (with venv and headers), g++ and make; the rest
# is installed into .venv on first use. PYTHON=… picks another interpreter.

CXX ?= g++
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

ifndef PYTHON
PYTHON := $(if $(wildcard $(BIN)/python),$(BIN)/python,$(shell \
	for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; exit; }; \
	done; echo python3))
endif

# Large wheels on a slow line: uv's own 30 s are for one read of the socket.
export UV_HTTP_TIMEOUT ?= 300

.DEFAULT_GOAL := help
.PHONY: help setup preflight fmt check test test-gpu test-trainers fuzz chaos bench bench-builds bench-sandbox bench-kernelbench \
	docs run demo

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 19

setup: $(INSTALLED) ## make .venv and install everything into it

fmt: $(INSTALLED) ## format, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(INSTALLED) ## lint, formatting, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(INSTALLED) ## all tests; those that need a GPU are skipped where there is none
	$(BIN)/python -m pytest

test-gpu: $(INSTALLED) ## only the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

test-trainers: $(INSTALLED) ## the adapters through the trainers' own packages, each set in an environment of its own
	@set -e; for list in tests/trainers/requirements/*.txt; do \
		own=.venv/trainers/$$(basename $$list .txt); \
		test -x $$own/bin/python || $(BIN)/python -m venv --without-pip $$own; \
		$(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
			> $$($$own/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/beside.pth; \
		$(BIN)/uv pip install --python $$own/bin/python --no-deps -r $$list; \
		PATH="$$PATH:$(CURDIR)/$(BIN)" $$own/bin/python -m pytest -W default tests/trainers; \
	done

FUZZ_SECONDS ?= 3600
fuzz: $(INSTALLED) ## FUZZ_SECONDS (an hour) of hostile input to everything that reads some; fails on a finding
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest tests/fuzz -p no:cacheprovider

CHAOS_CHECKS ?= 1000
chaos: $(INSTALLED) ## CHAOS_CHECKS (1000) checks while every process is killed at random; CHAOS_SEED repeats a run
	CHAOS_CHECKS=$(CHAOS_CHECKS) CHAOS_ROUNDS=0 $(BIN)/python -m pytest tests/e2e/test_chaos.py -p no:cacheprovider

bench: $(INSTALLED) ## the whole corpus through the real pipeline: verdicts and durations as a table
	$(BIN)/python tests/benchmarks/pipeline.py

bench-builds: $(INSTALLED) ## every extension of tests/extensions by both recipes: costs, and whether they agree
	$(BIN)/python tests/benchmarks/build_cost.py

bench-sandbox: $(INSTALLED) ## what containment costs on this machine
	$(BIN)/python tests/benchmarks/sandbox.py

bench-kernelbench: $(INSTALLED) ## 66 problems like KernelBench's, with candidates in Triton and CUDA, on this machine's GPUs; a report
	$(BIN)/python tests/kernelbench/make.py build/kernelbench
	$(BIN)/keck batch build/kernelbench --device cuda --report build/kernelbench/report

docs: $(INSTALLED) ## write the generated pages again
	$(BIN)/python tests/test_docs.py

run: $(INSTALLED) ## the whole system on this machine
	$(BIN)/keck up

demo: $(INSTALLED) ## one check, end to end, on the CPU
	env -u KECK_URL -u KECK_NATS_URL $(BIN)/keck check \
		examples/cpp_relu/candidate.py examples/cpp_relu/reference.py --device cpu

$(INSTALLED): pyproject.toml constraints.txt | preflight
	@echo "Installing into $(VENV): about 3 GB to download and 5 GB on disk, most of it torch and CUDA libraries."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python -c constraints.txt -e '.[embedded]' --group dev
	@touch $@

# Order-only and phony: looked at only when there is something to install.
preflight:
	@test -e $(INSTALLED) || { \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "keck: Python 3.11 or newer is needed; '$(PYTHON)' is none. Try: make PYTHON=python3.12 …" >&2; exit 1; }; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "keck: $(PYTHON) has no venv module. On Debian: apt-get install python3-venv" >&2; exit 1; }; \
	$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' || \
		{ echo "keck: $(PYTHON) has no headers (Python.h). On Debian: apt-get install python3-dev" >&2; exit 1; }; \
	command -v $(CXX) >/dev/null || \
		{ echo "keck: no C++ compiler ($(CXX)). On Debian: apt-get install g++" >&2; exit 1; }; \
	}
