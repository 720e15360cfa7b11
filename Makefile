# Every target sets up .venv by itself: the runtime packages, and the development ones where it needs them.
VENV := .venv
BIN  := $(VENV)/bin
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(FITS)' 2>/dev/null && { echo $$p; break; }; done)

export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DVC_NO_ANALYTICS := true
export NO_ALBUMENTATIONS_UPDATE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# DVC asks for a user's name and home, which a container's user without an entry in /etc/passwd has not.
export USER := $(or $(USER),$(shell id -un 2>/dev/null || echo user$$(id -u)))
ifneq ($(shell test -w "$$HOME" && echo writable),writable)
export HOME := $(CURDIR)
endif

.PHONY: help install repro test test-full lint format audit up bench rehearse-sysu clean-venv
help:
	@echo "make repro      the whole pipeline on the embedded synthetic data set"
	@echo "make test       the tests;  make test-full: those at the data sets' published sizes"
	@echo "make up         MLflow UI, Prefect server and a worker, until Ctrl-C"
	@echo "make bench      measured speed, as ratios within one run"
	@echo "make rehearse-sysu  SYSU-MM01's evaluation at its real size on drawn images (9 GiB, some minutes)"
	@echo "make lint       ruff and pyright;  make format: ruff's formatting"
	@echo "make audit      known vulnerabilities of the tested versions, asked of a public service"

$(VENV)/.runtime: pyproject.toml constraints.txt
	@'$(or $(PYTHON),false)' -c '$(FITS)' || { echo "error: Python 3.11, 3.12 or 3.13 is needed (PYTHON is '$(PYTHON)'):" \
	"install one, or name it: make PYTHON=/path/to/python3.13" >&2; exit 2; }
	@top=$$(git rev-parse --show-toplevel 2>&1); [ "$$top" = "$$(pwd -P)" ] || { echo "$$top" >&2; \
	echo "error: DVC needs git, and this folder as the top of its own repository:" >&2; \
	echo "  git init && git add --all && git commit --message 'MSCLNet as downloaded'" >&2; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON) (about 7 GB on disk, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@
$(VENV)/.development: $(VENV)/.runtime
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.development
repro: $(VENV)/.runtime
	dvc repro
up: $(VENV)/.runtime
	python -m pipelines up
test: $(VENV)/.development
	python -m pytest -n 2 --dist loadgroup -m 'not full_size'
test-full: $(VENV)/.development
	python -m pytest -n 2 --dist loadgroup -m full_size
lint: $(VENV)/.development
	ruff check .
	ruff format --check .
	pyright
format: $(VENV)/.development
	ruff check --fix .
	ruff format .
audit: $(VENV)/.development
	pip-audit --strict -r constraints.txt --no-deps --disable-pip
# COMPILE=1: torch.compile as well, which takes minutes to start
bench: $(VENV)/.development
	python -m benchmarks $(if $(COMPILE),--compile)
# PERMUTATIONS=/path/to/rand_perm_cam.mat BACKBONE=resnet50|slim PRECISION=fp32|bf16 WORKERS=N KEEP=/new/folder
rehearse-sysu: $(VENV)/.development
	python -m benchmarks.rehearsal $(foreach v,PERMUTATIONS BACKBONE PRECISION WORKERS KEEP,\
		$(if $($v),--$(shell echo $v | tr A-Z a-z) "$($v)"))
clean-venv:
	rm -rf $(VENV)
