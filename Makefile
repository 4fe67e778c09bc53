# make demo    set up, write a demo video, train on it, export the splats and a picture sheet
# make test    set up, check the style, the rooms and the types, run the tests
# make         set up only
# Everything happens in .venv; the first call fills it (some minutes, about 4 GB), later calls find it ready.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.10 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

DEMO := demo
OUT := demo_output
# Of the 4000 steps of das3r-light: done in minutes, and enough for the movers to go.
STEPS := 1500
RUN := $(OUT)/demo/das3r-light/run
SHEET := $(OUT)/sheet.png
PLY := $(OUT)/splat.ply

# The tests run on one thread each, so a worker for each core; the files with slow tests come first. A worker that hangs
# or crashes is not started again: it would meet the same test.
WORKERS := --numprocesses logical --maxprocesses 4 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder

.PHONY: all demo test format clean FORCE
.DELETE_ON_ERROR:

all: $(READY)

$(READY): pyproject.toml constraints.txt scripts/torchvision_cpu_shim.py scripts/system_libraries.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "The venv module of $(PYTHON) is missing (on Debian: apt-get install python3-venv)"; exit 1; }
	@echo "Setting up $(VENV): some minutes, about 4 GB"
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	$(BIN)/python scripts/torchvision_cpu_shim.py
	scripts/system_libraries.sh $(BIN)/python
	@touch $@

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -m 'not full_size' $(WORKERS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(SHEET)
	@echo
	@echo "Picture sheet   $(SHEET)   (input | mask | clean render | staticness)"
	@echo "Splats          $(PLY)   (opens in any Gaussian-splat viewer)"
	@echo "Look around     $(BIN)/ns-viewer --load-config $(RUN)/config.yml"

# Always asked for, and left untouched (so that nothing below is made again) where the same demo is there already.
$(DEMO)/demo.json: FORCE | $(READY)
	$(BIN)/das3r demo $(DEMO)

FORCE:

# The stamp, not config.yml: nerfstudio writes config.yml before it trains.
$(RUN)/.trained: $(DEMO)/demo.json | $(READY)
	$(BIN)/ns-train das3r-light --data $(DEMO)/frames --output-dir $(OUT) --experiment-name demo --timestamp run \
		--vis tensorboard --max-num-iterations $(STEPS)
	@touch $@

$(PLY): $(RUN)/.trained
	$(BIN)/ns-export gaussian-splat --load-config $(RUN)/config.yml --output-dir $(OUT)

$(SHEET): $(PLY)
	$(BIN)/python -m das3r_ns.evaluation.sheet --load-config $(RUN)/config.yml --output $@

clean:
	rm -rf $(DEMO) $(OUT)
