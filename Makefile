# The two commands: `make shakespeare` and `make test`. Both set up .venv first.

PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/shakespeare
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: shakespeare test format clean

shakespeare: $(READY)
	@if [ -e $(RUN) ]; then echo "$(RUN) stands: sampling from it (to train anew: rm -r $(RUN))"; \
	else $(BIN)/python train.py --run $(RUN); fi
	$(BIN)/python generate.py $(RUN) --prompt "ROMEO:" --seed 1
	$(BIN)/python export.py $(RUN)
	$(BIN)/python generate.py $(RUN)/export/model-int8.tflite --prompt "ROMEO:" --seed 1

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) web/node_modules

$(READY): requirements.txt requirements-dev.txt web/package-lock.json
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v >= (3, 11) else f"Python 3.11 or newer is needed, got {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@echo "installing into $(VENV) (a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@# Only web pages need it: without npm, or without its registry, the rest works.
	@if command -v npm >/dev/null; then npm ci --silent --prefix web || \
	echo "npm ci --prefix web failed: no web page can be exported"; fi
	@touch $@
