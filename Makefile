# Each target sets up .venv by itself when it is missing or when the dependencies changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export NO_ALBUMENTATIONS_UPDATE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install repro test lint format audit up bench rehearse-sysu clean-venv

help:
	@echo "make repro    the whole pipeline on the embedded synthetic data set"
	@echo "make test     the tests"
	@echo "make up       MLflow UI, Prefect server and a worker, until Ctrl-C"
	@echo "make bench    measured speed, as ratios within one run"
	@echo "make rehearse-sysu  SYSU-MM01's evaluation at its real size on drawn images (9 GiB, some minutes)"
	@echo "make lint     ruff and pyright;  make format: ruff's formatting"
	@echo "make audit    known vulnerabilities of the tested versions; says 'not run' where nobody can be asked"

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v[:2] < (3, 13) else f"Python 3.11 or 3.12 is needed, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11")'
	@echo "setting up $(VENV) (about 7 GB on disk, a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

# DVC and Python are called by their place, so that no activated environment is needed.
repro: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

test: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# 3 means not run: nobody could be asked. Only vulnerabilities are a failure; the words say which of the two it was.
audit: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pipelines.audit || [ $$? -eq 3 ]

up: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pipelines up

# COMPILE=1: torch.compile as well, which takes minutes to start
bench: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks $(if $(COMPILE),--compile)

# PERMUTATIONS=/path/to/rand_perm_cam.mat BACKBONE=resnet50|slim PRECISION=fp32|bf16 WORKERS=N KEEP=/new/folder
rehearse-sysu: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks.rehearse_sysu \
		$(if $(PERMUTATIONS),--permutations "$(PERMUTATIONS)") $(if $(BACKBONE),--backbone "$(BACKBONE)") \
		$(if $(PRECISION),--precision "$(PRECISION)") $(if $(WORKERS),--workers "$(WORKERS)") $(if $(KEEP),--keep "$(KEEP)")

clean-venv:
	rm -rf $(VENV)
