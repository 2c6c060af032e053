PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: help demo test lint bench web docs
help: ## list the commands
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/'

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch -c constraints.txt
	$(BIN)/pip install --quiet -e '.[dev,train,eval,web,cluster,export,docs]' -c constraints.txt
	$(BIN)/pip install --quiet mido pedalboard pyworld setuptools -c recipes/default/requirements.txt # the recipe's tests use these
	touch $@

demo: $(INSTALLED) ## separate a real song excerpt with the default model
	$(BIN)/pip install --quiet --no-deps stempeg==0.2.6
	$(BIN)/python examples/demo.py

test: $(INSTALLED) ## run the whole test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(INSTALLED) ## ruff, types, Dockerfile and shell scripts
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/hadolint Dockerfile && $(BIN)/shellcheck build.sh examples/multinode/*

bench: $(INSTALLED) ## speed and memory of every model, as a table and as JSON
	$(BIN)/python -m benchmarks

web: $(INSTALLED) ## the web page on this machine
	$(BIN)/frame-transformer web

docs: $(INSTALLED) ## the documentation, into site/
	$(BIN)/mkdocs build --strict
