# Every target sets up .venv from the pinned requirements first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENV_BUNDLES := .venv-bundles
OF_BUNDLES := ^(monai|torch|numpy|scipy|pytorch-ignite|nibabel|scikit-image|fire|PyYAML|tensorboard|pillow)==
DEMO := runs/demo
DEMO_NUCLEI := runs/demo-nuclei

.PHONY: setup demo demo-nuclei test test-federation test-bundles benchmark lint clean

# the mark comes last: an interrupted installation must not look like a finished one
$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; name one by: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

setup: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/python scripts/make_phantoms.py brains $(DEMO)/phantoms --cases_per_site 5 --test_cases_per_site 2 --size 96 96 16
	$(BIN)/python scripts/prepare_data.py brats $(DEMO)/phantoms --output $(DEMO)/data --sites table \
		--table $(DEMO)/phantoms/cases.csv --modalities flair --name "brain phantoms"
	$(BIN)/python scripts/run_experiments.py --task brats --dataset_dir $(DEMO)/data --profile demo --run_dir $(DEMO)

demo-nuclei: $(VENV)/.installed
	$(BIN)/python scripts/make_phantoms.py nuclei $(DEMO_NUCLEI)/phantoms --cases_per_site 4 --test_cases_per_site 2 \
		--other_cases 2 --size 256
	$(BIN)/python scripts/prepare_data.py multi_organ $(DEMO_NUCLEI)/phantoms --output $(DEMO_NUCLEI)/data --sites table \
		--table $(DEMO_NUCLEI)/phantoms/cases.csv --name "nuclei phantoms"
	$(BIN)/python scripts/run_experiments.py --task multi_organ --dataset_dir $(DEMO_NUCLEI)/data --profile demo \
		--run_dir $(DEMO_NUCLEI)

test: lint
	$(BIN)/python -m pytest

test-federation: $(VENV)/.installed
	$(BIN)/python -m pytest -m federation

# what bundles are tested in has what their metadata name and what MONAI exports ONNX with, and nothing of this repository
$(VENV_BUNDLES)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV_BUNDLES)
	grep -E '$(OF_BUNDLES)' requirements.txt | $(VENV_BUNDLES)/bin/python -m pip install --quiet --disable-pip-version-check \
		-r /dev/stdin onnx onnxscript onnxruntime
	touch $@

test-bundles: $(VENV)/.installed $(VENV_BUNDLES)/.installed
	$(BIN)/python -m pytest -m bundles

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmark: $(VENV)/.installed
	$(BIN)/python scripts/benchmark.py step

clean:
	rm -rf $(VENV) $(VENV_BUNDLES) $(DEMO) $(DEMO_NUCLEI)
