# Everything a newcomer runs. Python and the place to install can be chosen: make test VENV=/some/folder
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo

.PHONY: demo test results clean

demo: $(VENV)/installed  ## train on digits, judge, and draw accuracy against cost
	test ! -e "$(RUN)" || test -e "$(RUN)/experiment.json"  # RUN is removed: a run, nothing else
	rm -rf "$(RUN)"
	"$(VENV)/bin/penstock" train digits --out "$(RUN)"
	@echo "Accuracy against cost: $(RUN)/frontier.png"

test: $(VENV)/installed  ## every check that a change must pass
	"$(VENV)/bin/ruff" check
	"$(VENV)/bin/ruff" format --check
	"$(VENV)/bin/mypy"
	"$(VENV)/bin/mypy" tests
	"$(VENV)/bin/lint-imports"
	"$(VENV)/bin/pytest" -n 2

results: $(VENV)/installed  ## docs/results.md from the recorded numbers
	"$(VENV)/bin/python" scripts/reproduce/draw_results.py

clean:  ## all that the commands above left here, but no run of yours
	rm -rf .venv runs/demo build *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: requirements.lock pyproject.toml
	test -x "$(VENV)/bin/python" || "$(PYTHON)" -m venv "$(VENV)"
	"$(VENV)/bin/pip" install -r requirements.lock
	"$(VENV)/bin/pip" install --no-deps -e .
	touch "$@"
