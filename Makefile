# Every target sets up .venv from the pinned requirements first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# the code of this checkout, also where several share an environment by links: asyndgan is then that of the last setup
ASYNDGAN := $(BIN)/python -m bundle.cli
VENV_BUNDLES := .venv-bundles
VENV_DOCS := .venv-docs
OF_BUNDLES := ^(monai|torch|numpy|scipy|pytorch-ignite|nibabel|scikit-image|fire|PyYAML|tensorboard|pillow)==
DEMO := runs/demo
DEMO_NUCLEI := runs/demo-nuclei
DEMO_FEDERATION := runs/demo-federation
VENV_LABEL := .venv-monailabel
LABEL := runs/monailabel
SEGMENTER := seed_0/asyndgan/segmenter/segmenter.pt

# a file's tests stay in one process, where they share what they have trained
IN_PARALLEL := --numprocesses logical --maxprocesses 4 --dist loadfile

# an environment may be a link to where there is room; venv itself refuses links
make_venv = $(PYTHON) -m venv "$$($(PYTHON) -c 'import os, sys; print(os.path.realpath(sys.argv[1]))' $(1))"

.PHONY: setup setup-monailabel docs reference demo demo-nuclei demo-federation test test-ranges coverage fuzz canaries test-long test-federation test-bundles test-browser monailabel benchmark gpu gpu-pack lint types clean

# the mark comes last: an interrupted installation must not look like a finished one
$(VENV)/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; name one by: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(call make_venv,$(VENV))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# 8 GB: MONAI Label wants older packages than this project, so it has an environment of its own
$(VENV_LABEL)/.installed: requirements-monailabel.txt
	@$(PYTHON) -c 'import sys; sys.exit("MONAI Label needs Python 3.11; name one by: make PYTHON=python3.11" if sys.version_info[:2] != (3, 11) else 0)'
	$(call make_venv,$(VENV_LABEL))
	$(VENV_LABEL)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-monailabel.txt
	touch $@

setup: $(VENV)/.installed

setup-monailabel: $(VENV_LABEL)/.installed

# images of 64 pixels give a second thread little to do, and beside other work it waits for its turn: docs/performance.md
demo: $(VENV)/.installed
	$(ASYNDGAN) phantoms brains $(DEMO)/phantoms --cases_per_site 5 --test_cases_per_site 2 --size 96 96 16
	$(ASYNDGAN) prepare brats $(DEMO)/phantoms --output $(DEMO)/data --sites table \
		--table $(DEMO)/phantoms/cases.csv --modalities flair --name "brain phantoms"
	$(ASYNDGAN) run --task brats --dataset_dir $(DEMO)/data --profile demo --run_dir $(DEMO) \
		--settings real_all real_subset asyndgan --threads 1

demo-nuclei: $(VENV)/.installed
	$(ASYNDGAN) phantoms nuclei $(DEMO_NUCLEI)/phantoms --cases_per_site 4 --test_cases_per_site 2 \
		--other_cases 2 --size 256
	$(ASYNDGAN) prepare multi_organ $(DEMO_NUCLEI)/phantoms --output $(DEMO_NUCLEI)/data --sites table \
		--table $(DEMO_NUCLEI)/phantoms/cases.csv --name "nuclei phantoms"
	$(ASYNDGAN) run --task multi_organ --dataset_dir $(DEMO_NUCLEI)/data --profile demo \
		--run_dir $(DEMO_NUCLEI) --threads 1

# two hospitals and a server as processes of this machine, with certificates of their own and TLS between them
demo-federation: $(VENV)/.installed
	$(ASYNDGAN) phantoms brains $(DEMO_FEDERATION)/phantoms --sites A B --cases_per_site 4 \
		--test_cases_per_site 0 --size 64 64 12
	$(ASYNDGAN) prepare brats $(DEMO_FEDERATION)/phantoms --output $(DEMO_FEDERATION)/data --sites table \
		--table $(DEMO_FEDERATION)/phantoms/cases.csv --modalities flair --name "brain phantoms"
	$(ASYNDGAN) federate poc --task brats --profile demo --dataset_dir $(DEMO_FEDERATION)/data \
		--run_dir $(DEMO_FEDERATION) --threads 1 --device cpu --set num_steps=200

test: lint types
	$(BIN)/python -m pytest $(IN_PARALLEL)

# whole runs of other tasks and settings, killed commands, tutorials, simulations of FLARE
test-long: $(VENV)/.installed
	$(BIN)/python -m pytest -m 'long and not federation' $(IN_PARALLEL)

# mutated messages, for the server and for a site; `make test` takes 500 each
fuzz: $(VENV)/.installed
	FUZZ_MESSAGES=100000 $(BIN)/python -m pytest tests/wire/test_fuzz.py

# the ends of the ranges in pyproject.toml, in an environment of their own: VERSIONS=lowest, or highest
VERSIONS ?= lowest
test-ranges:
	$(call make_venv,.venv-$(VERSIONS))
	.venv-$(VERSIONS)/bin/python -m pip install --quiet --disable-pip-version-check \
		$(if $(filter lowest,$(VERSIONS)),--constraint requirements-lowest.txt) '.[federation,tracking,tiff,test]'
	.venv-$(VERSIONS)/bin/python -m pytest $(IN_PARALLEL)

# lower bounds on epsilon from a patient who is a canary, over 200 trainings with him and 200 without
canaries: $(VENV)/.installed
	$(BIN)/python -m pytest -m canaries tests/site/test_canaries.py

test-federation: $(VENV)/.installed
	$(BIN)/python -m pytest -m federation

# on phantoms, with the segmenters of the demonstrations; with data and others: tests/label/test_real_server.py
$(DEMO)/$(SEGMENTER):
	$(MAKE) demo

$(DEMO_NUCLEI)/$(SEGMENTER):
	$(MAKE) demo-nuclei

monailabel: $(VENV)/.installed $(VENV_LABEL)/.installed $(DEMO)/$(SEGMENTER) $(DEMO_NUCLEI)/$(SEGMENTER)
	$(ASYNDGAN) pack brats --weights $(DEMO)/$(SEGMENTER) --data_license LICENSE \
		--output $(LABEL)/dist --overwrite
	$(ASYNDGAN) pack multi_organ --weights $(DEMO_NUCLEI)/$(SEGMENTER) --data_license LICENSE \
		--output $(LABEL)/dist --overwrite
	LABEL_ENVIRONMENT=$(VENV_LABEL) LABEL_BRAIN=$(LABEL)/dist/asyndgan_brain_tumor_segmentation \
		LABEL_NUCLEI=$(LABEL)/dist/asyndgan_nuclei_segmentation $(BIN)/python -m pytest -m monailabel -s tests/label

# what bundles are tested in has what their metadata name and what MONAI exports ONNX with, and nothing of this repository
$(VENV_BUNDLES)/.installed: requirements.txt requirements-onnx.txt
	$(call make_venv,$(VENV_BUNDLES))
	grep -E '$(OF_BUNDLES)' requirements.txt | $(VENV_BUNDLES)/bin/python -m pip install --quiet --disable-pip-version-check \
		-r /dev/stdin -r requirements-onnx.txt
	touch $@

# branches that tests take, by file; what tests start as programs counts as well
coverage: $(VENV)/.installed
	$(BIN)/python -m pytest $(IN_PARALLEL) --cov bundle --cov-branch --cov-report term:skip-covered

test-bundles: $(VENV)/.installed $(VENV_BUNDLES)/.installed
	$(BIN)/python -m pytest -m bundles

# the report's page as a headless Chromium shows it; without one (Debian: apt-get install chromium) all are skipped
test-browser: $(VENV)/.installed
	$(BIN)/python -m pytest -m browser -rs tests/report

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV_DOCS)/.installed: requirements-docs.txt
	$(call make_venv,$(VENV_DOCS))
	$(VENV_DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

# pages, tutorials and API reference to build/docs/index.html; a warning is an error
docs: $(VENV_DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(VENV_DOCS)/bin/mkdocs build --strict --quiet

types: $(VENV)/.installed
	$(BIN)/python -m mypy

# from the declaration of the keys and the configs, and from that of the sheet's fields
reference: $(VENV)/.installed
	$(BIN)/python -W ignore -m bundle.declarations.reference docs/reference/configuration.md
	$(BIN)/python -W ignore -m bundle.sheet.fields docs/reference/data_sheet.md

benchmark: $(VENV)/.installed
	$(BIN)/python -m scripts.benchmark step

# with a GPU, on a machine that has PyTorch and what gpu-pack carries there; without one: run --smoke
gpu:
	$(PYTHON) -m scripts.gpu run --output build/gpu-results $(if $(wildcard build/gpu/data),--dataset_dir build/gpu/data)

gpu-pack: $(VENV)/.installed
	$(BIN)/python -m scripts.gpu pack build/gpu $(if $(DATA),--dataset_dir $(DATA))

clean:
	rm -rf $(VENV) $(VENV_BUNDLES) $(VENV_DOCS) $(VENV_LABEL) .venv-lowest .venv-highest $(DEMO) $(DEMO_NUCLEI) $(DEMO_FEDERATION) $(LABEL) \
		asyndgan_bundle.egg-info
