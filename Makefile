# make demo   a whole hierarchy on this machine, and one real folder through it
# make test   what a change must pass: linters, types, import rules, all tests
#
# Both work on a fresh Debian machine: they install what is missing, and nothing when nothing is.

PYTHON ?= python3
SOURCE ?= $(shell if [ -d "$$HOME/Documents" ]; then echo "$$HOME/Documents"; else echo /usr/share/doc; fi)
AT ?= cdr-demo
PYTEST_ARGS ?=
BENCH_ARGS ?= --set all --runs 3

VENV := .venv
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
BUILT_FROM := pyproject.toml hatch_build.py $(wildcard cdr_plugin/kernel/*.[ch])

.PHONY: help demo test lint bench bench-care bench-delta bench-tiers clean system
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.run
	@if [ -e "$(AT)" ]; then \
	  echo "make demo: '$(AT)' is already there, probably from the last demo." >&2; \
	  echo "Remove it with 'rm -r $(AT)', or choose another folder: make demo AT=other-folder" >&2; exit 1; fi
	$(IN_VENV) cdr quickstart "$(SOURCE)" --at "$(AT)"

test: lint
	$(IN_VENV) python -m pytest -n 2 $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(IN_VENV) ruff check .
	$(IN_VENV) mypy
	$(IN_VENV) mypy -p bench
	$(IN_VENV) lint-imports

bench: $(VENV)/.run
	$(IN_VENV) python -m bench.run $(BENCH_ARGS)

bench-care: $(VENV)/.run
	$(IN_VENV) python -m bench.care $(BENCH_ARGS)

bench-delta: $(VENV)/.run
	$(IN_VENV) python -m bench.delta $(BENCH_ARGS)

bench-tiers: $(VENV)/.run
	$(IN_VENV) python -m bench.tiers
	$(IN_VENV) python -m bench.growth

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f cdr_plugin/kernel/*.so
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# Phony, and therefore order-only below: it always looks, but never makes the environment out of date.
system:
	@PYTHON="$(PYTHON)" VENV="$(VENV)" tools/prepare

$(VENV)/.run: $(BUILT_FROM) | system
	$(VENV)/bin/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(BUILT_FROM) | system
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.run
