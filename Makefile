# make demo    the story on real probes: a runtime that creates threads wrongly, and the same one corrected
# make test    every test            make check   lint, types, the direction of imports
# make bench   what tracing costs    make clean   remove what was built, the environment too
#
# Each sets up what it needs: distribution packages and tracefs when root, a virtual environment, the workloads.

PYTHON ?= python3
ROOT := $(filter 0,$(shell id -u))
BIN := .venv/bin

PACKAGES := gcc libc6-dev strace python3-venv python3-bpfcc bpftrace golang-go ruby musl-tools chromium util-linux

.PHONY: demo test check bench setup packages tracefs workloads clean

demo: setup
	$(BIN)/python docs/demo.py

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_layout.py

bench: setup
	$(BIN)/python benchmarks/cost.py
	$(BIN)/python benchmarks/engine.py

setup: packages tracefs .venv/installed workloads

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
	apt-get update -qq; \
	if [ -n "$$headers" ]; then \
	    apt-cache show linux-headers-$$arch >/dev/null 2>&1 && missing="$$missing linux-headers-$$arch" \
	        || missing="$$missing linux-headers-generic"; \
	fi; \
	echo "Installing$$missing"; \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null

# The tool itself mounts nothing.
tracefs:
	@[ -z "$(ROOT)" ] || [ -d /sys/kernel/tracing/events ] || [ -d /sys/kernel/debug/tracing/events ] \
	    || { echo "Mounting tracefs at /sys/kernel/tracing"; mount -t tracefs tracefs /sys/kernel/tracing; } \
	    || echo "tracefs can't be mounted here"

.venv/installed: pyproject.toml | packages
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

workloads: packages
	@$(MAKE) -s -C tests/workloads

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@$(MAKE) -s -C tests/workloads clean
