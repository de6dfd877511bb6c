# Two commands do everything on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.installed

.PHONY: demo test fuzz ui check bench setup repro constraints clean

setup: $(SETUP)

$(SETUP): pyproject.toml constraints.txt
	@echo "setting up $(VENV): a few minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@$(BIN)/einthoven setup
	@touch $@

demo: $(SETUP)  ## the whole way with all methods on simulated datasets, from raw records to a champion
	@$(BIN)/einthoven run merl melp more symile ecg_jepa csfm ecg_mamba scalogram wearecg --dataset synthetic --preset tiny
	@$(BIN)/einthoven run wesad --dataset synthetic_wearable --preset tiny
	@echo
	@echo "To look around: make ui, then open http://127.0.0.1:3000 (Dagster) and http://127.0.0.1:5000 (MLflow)"

test: $(SETUP)  ## every test; what needs a component that is not installed is skipped and says why
	@$(BIN)/pytest -n 2 --dist loadfile

MINUTES ?= 10
fuzz: $(SETUP)  ## recordings drawn by hypothesis, then MINUTES of damaged bytes for every reader; findings in var/fuzz
	@$(BIN)/pytest -p no:xdist tests/properties --hypothesis-profile=long
	@nice $(BIN)/python -m tests.fuzz.run --seconds $$(($(MINUTES) * 60)) --crashes var/fuzz

ui: $(SETUP)  ## Dagster's UI and daemon, MLflow's UI
	@$(BIN)/einthoven ui

check: $(SETUP)  ## lint, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(SETUP)  ## benchmarks beside peers and limits
	@for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

repro: $(SETUP)  ## the same graph through DVC
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

constraints:  ## pin anew every version that the tests run with (needs uv)
	@(echo "# Every version that Einthoven is tested with. Remake with: make constraints"; \
	  UV_FIND_LINKS="$$PIP_FIND_LINKS" uv pip compile pyproject.toml --all-extras --python-version 3.11 --prerelease if-necessary-or-explicit --no-header --no-annotate --quiet | sed 's/+cpu//') > constraints.new
	@mv constraints.new constraints.txt

clean:  ## remove the environment; data stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
