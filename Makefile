# Everything runs from a virtual environment that the first target makes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint takeoff clean

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

# When does learning take off, with and without each thing that matters? 8 seeds, both writers.
takeoff: .venv/installed
	for name in $$($(BIN)/python -c 'from experiments.configs.dictionary import TAKEOFF; print(*TAKEOFF)'); do \
		$(BIN)/python -m experiments.dictionary --config=$$name \
			--models=mnm_p,mnm_g --num_seeds=8 --workdir=runs/takeoff/$$name --resume || exit 1; \
	done
	$(BIN)/python -m experiments.takeoff runs/takeoff

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf .venv build *.egg-info
