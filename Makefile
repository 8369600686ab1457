# The commands of this project; `make` alone lists them. All Python is in .venv, all foreign tools in .tools, all else
# that is made in .cache; `make clean` removes the three.

PYTHON ?= python3
# Installed before anything that asks for torch; where no other build is offered, a plain torch brings CUDA along
TORCH ?= torch==2.13.0
# A load file for `make demo`; one is made up where none is given
LOADS ?=
# What `make bench-solvers` measures: auto (a GPU where there is one), cpu, cuda or cuda:N
DEVICE ?= auto
# More for `make up`
UP ?=
# Of the image: cpu or cuda
VARIANT ?= cpu

# Small enough to run as plain Python, without numba's compiler
KERNEL_TESTS := tests/test_rebalance_choice.py tests/test_rebalance_examples.py tests/test_packer.py

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

READY := .venv/.ready
PIP := .venv/bin/pip install -qq --disable-pip-version-check
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Two makes in one checkout set up once, one after the other
ONE_AT_A_TIME := mkdir -p .cache; exec 9>.cache/set-up.lock; ! command -v flock >/dev/null || flock 9;

.PHONY: help demo serve up test lint stubs tools test-system test-image bench bench-solvers bench-rebalance bench-memory \
  bench-growing bench-plugin bench-reading bench-scrape bench-start bench-tracing bench-tuning bench-image image dashboards pictures docs package lock audit soak chaos \
  fuzz connections mutants coverage clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## start a server, pack a load, fire a burst, show what happened; LOADS=FILE packs your own
	@.venv/bin/trimtab demo $(if $(LOADS),--loads '$(LOADS)')

serve: $(READY) ## run a server in the foreground until Ctrl-C
	@exec .venv/bin/trimtab-server

up: $(READY) ## a server, Prometheus and a page to look at, until Ctrl-C (after make tools); UP=--load drives it too
	@exec .venv/bin/python deploy/up.py $(UP)

test: lint ## lint, then all tests that pip alone can set up
	@echo "== tests"
	@.venv/bin/pytest --ignore=tests/system

lint: $(READY) ## ruff and mypy
	@echo "== ruff check" && .venv/bin/ruff check .
	@echo "== ruff format" && .venv/bin/ruff format --check .
	@echo "== mypy" && .venv/bin/mypy

stubs: $(READY) ## generate client/trimtab/v1 from proto/ again
	@.venv/bin/python -m tests.stubs

tools: .tools/.ready ## get what the system tests need from Debian, npm and PyPI
	@echo "tools: promtool $$(promtool --version 2>&1 | awk 'NR == 1 {print $$3}'), node $$(node --version)," \
	  "buf $$(.tools/node_modules/.bin/buf --version 2>&1), $$(buildah --version), $$(chromium --version)"

test-system: $(READY) ## the tests with foreign tools, but for the image (after make tools)
	@echo "== system tests"
	@.venv/bin/pytest tests/system --ignore=tests/system/test_image.py

test-image: $(READY) ## build the image, run it as a cluster would, and test it (after make tools; some minutes)
	@echo "== image tests"
	@.venv/bin/pytest tests/system/test_image.py

image: $(READY) .tools/.ready ## build the image, without a Docker engine (some minutes); VARIANT=cuda for GPUs
	@.venv/bin/python -m deploy.image.build --variant '$(VARIANT)'

bench-image: $(READY) .tools/.ready ## how soon the image serves
	@.venv/bin/python -m benchmarks.image

dashboards: $(READY) ## write deploy/grafana/*.json and the Prometheus operator's rules again
	@.venv/bin/python -m deploy.grafana.dashboards
	@.venv/bin/python deploy/kubernetes/prometheus_rule.py

bench: $(READY) ## the solver and the service, measured
	@.venv/bin/python -m benchmarks.solver
	@.venv/bin/python -m benchmarks.solver --solver torch --no-refine
	@.venv/bin/python -m benchmarks.service
	@.venv/bin/python -m benchmarks.service --solver torch --no-refine

bench-solvers: $(READY) ## all solvers over shapes, restarts and batches (some minutes); DEVICE=cuda for a GPU
	@.venv/bin/python -m benchmarks.solvers --device '$(DEVICE)'

bench-rebalance: $(READY) ## rebalancing beside EPLB's way (some minutes); TRIMTAB_TRACES=FOLDER of real loads
	@.venv/bin/python -m benchmarks.rebalance

bench-growing: $(READY) .tools/.ready ## rates of 2 and 4 replicas over one, behind Envoy and by the client (some minutes)
	@.venv/bin/python -m benchmarks.growing

bench-scrape: $(READY) ## what looking at a server costs
	@.venv/bin/python -m benchmarks.scrape

bench-tracing: $(READY) ## what tracing costs (some minutes)
	@.venv/bin/python -m benchmarks.tracing

bench-tuning: $(READY) ## what each setting moves (some minutes)
	@.venv/bin/python -m benchmarks.tuning

bench-start: $(READY) ## how soon the commands and the server are there
	@.venv/bin/python -m benchmarks.start

bench-reading: $(READY) ## 10,000 windows read, by kind of file (some minutes)
	@.venv/bin/python -m benchmarks.reading

bench-plugin: $(READY) ## what the vLLM plug-in adds to the service's own time
	@.venv/bin/python -m benchmarks.plugin

bench-memory: $(READY) ## the server's memory over many requests
	@.venv/bin/python -m benchmarks.memory

soak: $(READY) ## ten times the load that the service can carry, for a minute
	@.venv/bin/python -m tests.harness.soak

chaos: $(READY) ## servers killed, restarted and frozen under a client that must not notice (three minutes)
	@.venv/bin/python -m tests.harness.chaos

fuzz: $(READY) ## a million requests gone wrong (twenty minutes)
	@.venv/bin/python -m tests.harness.fuzz

connections: $(READY) ## one caller beside thousands of idle and half-open connections
	@.venv/bin/python -m tests.harness.connections

coverage: $(READY) ## lines and branches that the tests reach, kernels as plain Python (half an hour)
	@rm -rf .cache/coverage && mkdir -p .cache/coverage
	@.venv/bin/coverage run -m pytest -q --timeout 600 --ignore=tests/system
	@NUMBA_DISABLE_JIT=1 .venv/bin/coverage run -m pytest -q --timeout 1200 $(KERNEL_TESTS)
	@.venv/bin/coverage combine -q
	@.venv/bin/python -m tests.harness.covered

mutants: $(READY) ## break the code in every small way; the tests have to notice (an hour)
	@.venv/bin/python -m tests.harness.mutants

lock: $(READY) ## write deploy/locked.txt: the versions that are installed here
	@.venv/bin/python deploy/locked.py write

pictures: $(READY) ## draw docs/pictures/*.svg again
	@.venv/bin/python -m docs.site.pictures

docs: $(READY) ## build the site of the documentation into .cache/site
	@.venv/bin/python -m docs.site

package: $(READY) ## build the wheel and the source distribution into dist/, and check them (two minutes)
	@.venv/bin/python -m deploy.package

audit: $(READY) ## whether any locked version is known to be vulnerable
	@.venv/bin/python deploy/locked.py audit

clean: ## remove all that make and the tests made
	@rm -rf .venv .tools .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	@find . -name __pycache__ -prune -exec rm -rf {} +
	@echo "removed .venv, .tools, .cache and what the tests left"

$(READY): pyproject.toml
	@$(ONE_AT_A_TIME) [ $@ -nt pyproject.toml ] && exit 0 || true; \
	echo "setting up .venv (some minutes the first time) ..."; \
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed; say which: make PYTHON=...") if sys.version_info < (3, 10) else None'; \
	$(PYTHON) -m venv .venv; \
	echo "  $(TORCH)"; $(PIP) '$(TORCH)'; \
	echo "  trimtab, with all that its development needs"; $(PIP) -e '.[dev]'; \
	.venv/bin/python -c 'import sys, torch, trimtab; print(f"set up .venv: Python {sys.version.split()[0]}, torch {torch.__version__}, trimtab {trimtab.__version__}")'; \
	touch $@

.tools/.ready: tests/system/package.json tests/system/requirements.txt
	@$(ONE_AT_A_TIME) \
	missing=(); \
	for command in prometheus promtool node npm faketime chromium buildah mmdebstrap; do \
	  command -v $$command >/dev/null || missing+=("$$command"); \
	done; \
	if [ $${#missing[@]} -gt 0 ]; then \
	  echo "installing $${missing[*]} ..."; \
	  packages=$$(printf '%s\n' "$${missing[@]}" | sed 's/^promtool$$/prometheus/; s/^node$$/nodejs/' | sort -u); \
	  $(SUDO) apt-get update -qq; \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$packages >/dev/null; \
	fi; \
	echo "setting up .tools ..."; \
	mkdir -p .tools; \
	cp tests/system/package.json .tools/; \
	npm install --prefix .tools --no-package-lock --no-audit --no-fund --loglevel=error; \
	$(PYTHON) -m venv .tools/venv; \
	.tools/venv/bin/pip install -qq --disable-pip-version-check -r tests/system/requirements.txt; \
	touch $@
