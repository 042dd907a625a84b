# Every target works on a fresh clone with Python 3.11 and make: the first one installs into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
BENCH ?=
OPTIONS ?=
FULL ?=
EXAMPLES ?= 2000
# One thread per process: two fits with two threads each on two cores are many times slower.
export OMP_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: install demo wheel test test-cluster test-image image test-fast fuzz check style format bench audit clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Affectune needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt --editable '.[dev]'
	@touch $@

# KEEP=1: the endpoint and MLflow stay up. `make demo --keep` is make's own --keep-going, and means the same here.
KEEP ?= $(findstring k,$(firstword -$(MAKEFLAGS)))
demo: export MLFLOW_TRACKING_URI = sqlite:///demo/mlflow.db
demo: install
	rm -rf demo
	$(BIN)/affectune corpus synthesize demo/corpus
	$(BIN)/affectune corpus check demo/corpus
	$(BIN)/affectune study run demo --corpus demo/corpus --out demo/study --store demo/store --workers 2 --promote-first
	$(BIN)/affectune registry show affectune
	$(BIN)/affectune evaluate models:/affectune@champion --corpus demo/corpus --plots demo/plots --corrupt voice=noise:2.0
	$(BIN)/affectune predict models:/affectune@champion --corpus demo/corpus --out demo/predictions
	@echo "Look at demo/study/report.html, demo/plots/traces-voice-noise-2.0.png and the model card demo/study/model/README.md."
	@$(BIN)/python infra/demo.py demo/mlflow.db $(if $(KEEP),--keep)

# FULL=1: pip installs all that the wheel declares into its environment, which takes minutes.
wheel: install
	$(BIN)/python infra/wheel.py $(if $(FULL),--full)

test: install
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Several hosts, made as namespaces of this one: as root, on Linux. What cannot run here says so, and skips.
# CLUSTER=--last-failed: what has failed before, once more.
CLUSTER ?=
test-cluster: install
	$(BIN)/python -m pytest -o addopts="-q -rs --strict-markers $(CLUSTER)" -n 2 --dist worksteal -m cluster

# The container image, on a Debian that is made for it: as root, with buildah and debootstrap.
test-image: install
	$(BIN)/python -m pytest -s -m image tests/infra_tests/test_container.py

# OPTIONS="--cuda --tag affectune:cuda" and more: infra/container/README.md has them.
image: install
	$(BIN)/python infra/image.py $(OPTIONS)

# A file's tests run in one process, so that no fixture is made twice.
test-fast: install
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not cluster and not image"

# The property tests alone, with other inputs each time: make fuzz EXAMPLES=20000 tries that many of each.
fuzz: export AFFECTUNE_FUZZ = $(EXAMPLES)
fuzz: install
	$(BIN)/python -m pytest -n 2 -m hypothesis --hypothesis-profile fuzz

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

style: install
	$(BIN)/python -m tests.style

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m tests.benchmarks $(BENCH)

# Licences, and published advisories on the pinned versions. Ends with 3 where no advisory service is reached.
audit: install
	$(BIN)/python infra/audit.py

clean:
	rm -rf .venv build demo dist .affectune .mypy_cache .ruff_cache .import_linter_cache bench.json *.egg-info
