# Every target sets up .venv from the pinned requirements first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
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

.PHONY: setup setup-monailabel docs demo demo-nuclei demo-federation test test-ranges coverage fuzz test-federation test-bundles monailabel benchmark gpu gpu-pack lint types clean

# the mark comes last: an interrupted installation must not look like a finished one
$(VENV)/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; name one by: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(call make_venv,$(VENV))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# 8 GB: MONAI Label wants older packages than this project, so it has an environment of its own
$(VENV_LABEL)/.installed: requirements-monailabel.txt
	@$(PYTHON) -c 'import sys; sys.exit("MONAI Label needs Python 3.11; name one by: make PYTHON=python3.11" if sys.version_info[:2] != (3, 11) else 0)'
	$(call make_venv,$(VENV_LABEL))
	$(VENV_LABEL)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-monailabel.txt
	touch $@

setup: $(VENV)/.installed

setup-monailabel: $(VENV_LABEL)/.installed

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

# two hospitals and a server as processes of this machine, with certificates of their own and TLS between them
demo-federation: $(VENV)/.installed
	$(BIN)/python scripts/make_phantoms.py brains $(DEMO_FEDERATION)/phantoms --sites A B --cases_per_site 4 \
		--test_cases_per_site 0 --size 64 64 12
	$(BIN)/python scripts/prepare_data.py brats $(DEMO_FEDERATION)/phantoms --output $(DEMO_FEDERATION)/data --sites table \
		--table $(DEMO_FEDERATION)/phantoms/cases.csv --modalities flair --name "brain phantoms"
	$(BIN)/python scripts/federate.py poc --config_file "['train.yaml','brats.yaml','demo.yaml']" \
		--dataset_dir $(DEMO_FEDERATION)/data --run_dir $(DEMO_FEDERATION) --num_threads 1 --device cpu --set num_steps=200

test: lint types
	$(BIN)/python -m pytest $(IN_PARALLEL)

# mutated messages, for the server and for a site; `make test` takes 2,000 each
fuzz: $(VENV)/.installed
	FUZZ_MESSAGES=100000 $(BIN)/python -m pytest tests/federation/test_fuzz.py

# the ends of the ranges in pyproject.toml, in an environment of their own: VERSIONS=lowest, or highest
VERSIONS ?= lowest
test-ranges:
	$(call make_venv,.venv-$(VERSIONS))
	.venv-$(VERSIONS)/bin/python -m pip install --quiet --disable-pip-version-check \
		$(if $(filter lowest,$(VERSIONS)),--constraint requirements-lowest.txt) '.[federation,tracking,tiff,test]'
	.venv-$(VERSIONS)/bin/python -m pytest $(IN_PARALLEL)

test-federation: $(VENV)/.installed
	$(BIN)/python -m pytest -m federation

# on phantoms, with the segmenters of the demonstrations; with data and others: scripts/check_monailabel.py
$(DEMO)/$(SEGMENTER):
	$(MAKE) demo

$(DEMO_NUCLEI)/$(SEGMENTER):
	$(MAKE) demo-nuclei

monailabel: $(VENV)/.installed $(VENV_LABEL)/.installed $(DEMO)/$(SEGMENTER) $(DEMO_NUCLEI)/$(SEGMENTER)
	$(BIN)/python scripts/pack_bundle.py brats --weights $(DEMO)/$(SEGMENTER) --data_license LICENSE \
		--output $(LABEL)/dist --overwrite
	$(BIN)/python scripts/pack_bundle.py multi_organ --weights $(DEMO_NUCLEI)/$(SEGMENTER) --data_license LICENSE \
		--output $(LABEL)/dist --overwrite
	$(BIN)/python scripts/check_monailabel.py --environment $(VENV_LABEL) --run_dir $(LABEL)/check \
		--brain $(LABEL)/dist/asyndgan_brain_tumor_segmentation --nuclei $(LABEL)/dist/asyndgan_nuclei_segmentation

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

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV_DOCS)/.installed: requirements-docs.txt
	$(call make_venv,$(VENV_DOCS))
	$(VENV_DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

# pages, tutorial and API reference to build/docs/index.html; a warning is an error
docs: $(VENV_DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(VENV_DOCS)/bin/mkdocs build --strict --quiet

types: $(VENV)/.installed
	$(BIN)/python -m mypy

benchmark: $(VENV)/.installed
	$(BIN)/python scripts/benchmark.py step

# with a GPU, on a machine that has PyTorch and what gpu-pack carries there; without one, see scripts/gpu.py --smoke
gpu:
	$(PYTHON) scripts/gpu.py run --output build/gpu-results $(if $(wildcard build/gpu/data),--dataset_dir build/gpu/data)

gpu-pack: $(VENV)/.installed
	$(BIN)/python scripts/gpu.py pack build/gpu $(if $(DATA),--dataset_dir $(DATA))

clean:
	rm -rf $(VENV) $(VENV_BUNDLES) $(VENV_DOCS) $(VENV_LABEL) .venv-lowest .venv-highest $(DEMO) $(DEMO_NUCLEI) $(DEMO_FEDERATION) $(LABEL)
