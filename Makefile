# Everything runs from a virtual environment that the first target makes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint docs notebooks takeoff clean

# Trains every model on the demonstration task and draws the figures; a second call goes on where the first one was.
demo: .venv/installed
	$(BIN)/python -m experiments.dictionary --workdir=runs/demo --resume

test: .venv/installed
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/snippets.py README.md build/snippets
	$(BIN)/mypy mnm_jax experiments tests/protocols.py build/snippets

# The documentation, in build/site; a warning is an error. Its pages run in the tests.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Both notebooks in full, from top to bottom, with their outputs, in runs/notebooks.
notebooks: .venv/installed
	mkdir -p runs/notebooks
	cp docs/notebooks/*.ipynb runs/notebooks
	cd runs/notebooks && $(abspath $(BIN))/jupyter execute --inplace *.ipynb

# When does learning take off, with and without each thing that matters? 8 seeds, both writers.
takeoff: .venv/installed
	for name in $$($(BIN)/python -c 'from experiments.configs.dictionary import TAKEOFF; print(*TAKEOFF)'); do \
		$(BIN)/python -m experiments.dictionary --config=$$name \
			--models=mnm_p,mnm_g --num_seeds=8 --workdir=runs/takeoff/$$name --resume || exit 1; \
	done
	$(BIN)/python -m experiments.takeoff runs/takeoff

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[test,docs]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
