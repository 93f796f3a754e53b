# Each target sets up what it needs: distribution packages and tracefs when root, a virtual environment, the workloads.

PYTHON ?= python3
ARGS ?=
ROOT := $(filter 0,$(shell id -u))
BIN := .venv/bin
APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120

PACKAGES := gcc libc6-dev strace python3-venv python3-bpfcc bpftrace golang-go ruby musl-tools chromium util-linux

.PHONY: help demo test check format generate man bench setup packages venv tracefs workloads dtrace clean

help: ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 12

demo: setup ## the story on real probes: a runtime that creates threads wrongly, and the same one corrected
	$(BIN)/python docs/demo.py

test: setup ## every test; make test ARGS=tests/test_risk.py runs some
	$(BIN)/pytest $(ARGS)

check: .venv/installed ## lint, types, the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layout.py

format: .venv/installed ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: .venv/installed ## what is made of declarations: the C header of the kernel's record
	$(BIN)/python -c 'import pathlib; from sigwindow.probes import events; \
	    pathlib.Path("probes/bpf/event.h").write_text(events.c_header())'

man: .venv/installed ## man pages of all commands, in build/man/man1
	$(BIN)/python docs/man.py build/man/man1
	@echo "Read one by: man -M build/man sigwindow"

bench: setup ## what tracing costs, and how fast the engine is
	$(BIN)/python benchmarks/cost.py
	$(BIN)/python benchmarks/engine.py

setup: packages tracefs .venv/installed workloads ## all that tests and demo need

# The headers' package of Debian is named after the architecture; Ubuntu has `generic` for all.
packages:
	@command -v apt-get >/dev/null || { echo "No apt-get: have these installed: $(PACKAGES), kernel headers"; exit 0; }; \
	installed() { dpkg-query -W -f '$${Status}' "$$1" 2>/dev/null | grep -q 'ok installed'; }; \
	arch=$$(dpkg --print-architecture); \
	missing=; headers=; \
	for package in $(PACKAGES); do installed $$package || missing="$$missing $$package"; done; \
	installed linux-headers-$$arch || installed linux-headers-generic || headers=yes; \
	[ -n "$$missing$$headers" ] || exit 0; \
	if [ -z "$(ROOT)" ]; then echo "Missing, and not root to install them:$$missing$${headers:+ linux-headers-$$arch}"; exit 0; fi; \
	$(APT) update; \
	if [ -n "$$headers" ]; then \
	    apt-cache show linux-headers-$$arch >/dev/null 2>&1 && missing="$$missing linux-headers-$$arch" \
	        || missing="$$missing linux-headers-generic"; \
	fi; \
	echo "Installing$$missing"; \
	$(APT) install -y --no-install-recommends $$missing >/dev/null

# The tool itself mounts nothing.
tracefs:
	@[ -z "$(ROOT)" ] || [ -d /sys/kernel/tracing/events ] || [ -d /sys/kernel/debug/tracing/events ] \
	    || { echo "Mounting tracefs at /sys/kernel/tracing"; mount -t tracefs tracefs /sys/kernel/tracing; } \
	    || echo "tracefs can't be mounted here"

# Debian's python3 lacks venv without a package of its own.
venv:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { [ -n "$(ROOT)" ] && command -v apt-get >/dev/null \
	    && $(APT) update && $(APT) install -y python3-venv >/dev/null; } \
	    || { echo "$(PYTHON) has no venv: install python3-venv"; exit 1; }

.venv/installed: pyproject.toml constraints.txt | venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

workloads: packages
	@$(MAKE) -s -C tests/workloads

dtrace: tests/dtrace/build/dtrace ## DTrace 2 beside the system, for the tests of the D scripts

tests/dtrace/build/dtrace: tests/dtrace/unpack.sh
	tests/dtrace/unpack.sh tests/dtrace/build

clean: ## remove what was built, the environment too
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis tests/dtrace/build
	@$(MAKE) -s -C tests/workloads clean
