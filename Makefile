# The commands a person needs; `make help` lists them.

PROFILE = quick
DATA = birds
SEED = 0
DEVICE = auto
NOTEBOOKS =
PORT = 8000
PYTHON =
ARGS =

VENV = .venv
READY = $(VENV)/.milr-ready
RUN_PYTHON = $(VENV)/bin/python
# How many processes find a core for themselves, on macOS and in a container, too.
CORES = $$($(RUN_PYTHON) -c 'from milr.companion.schedule import cores; print(cores())')
RUN = --profile $(PROFILE) --data $(DATA) --seed $(SEED) --device $(DEVICE)

# Notebooks and prose are UTF-8, also on a machine whose language was set to something older.
export PYTHONUTF8 = 1

# $(call one_of,NAME,allowed values): refuse anything else before anything is installed or run.
one_of = $(if $(filter-out 1,$(words $($(1))))$(filter-out $(2),$($(1))),\
	$(error $(1)=$($(1)) is not known; allowed are: $(2)))
digits = $(subst 9,,$(subst 8,,$(subst 7,,$(subst 6,,$(subst 5,,$(subst 4,,$(subst 3,,$(subst \
	2,,$(subst 1,,$(subst 0,,$(1)))))))))))

$(call one_of,PROFILE,smoke quick full paper)
$(call one_of,DATA,birds cub)
$(call one_of,DEVICE,auto cpu cuda mps)
seeds = allowed are whole numbers from 0 to 2147483647
$(if $(SEED),,$(error SEED is empty; $(seeds)))
$(if $(call digits,$(SEED)),$(error SEED=$(SEED) is not known; $(seeds)))
$(if $(shell test $(SEED) -le 2147483647 2>/dev/null || echo large),\
	$(error SEED=$(SEED) is too large; $(seeds)))

chapters = $(sort $(shell sed -n 's|^ *- *file: *notebooks/||p' _toc.yml))
$(if $(filter-out $(chapters),$(NOTEBOOKS)),$(error NOTEBOOKS=$(NOTEBOOKS): there is no \
	$(filter-out $(chapters),$(NOTEBOOKS)); allowed are: $(chapters)))

.PHONY: help setup reproduce test book serve validate reference bench clean data-cub lock keep
.DEFAULT_GOAL = help

help: ## list these commands
	@echo "make COMMAND [VARIABLE=value ...]"
	@echo
	@sed -n 's/^\([a-z-]*\):.*## /  \1|/p' $(firstword $(MAKEFILE_LIST)) \
		| awk -F'|' '{ printf "%-13s %s\n", $$1, $$2 }'
	@echo
	@echo "  PROFILE    smoke, quick, full or paper (now $(PROFILE)): how much is computed"
	@echo "  DATA       birds (drawn here) or cub (photographs; see data-cub) (now $(DATA))"
	@echo "  SEED       a whole number (now $(SEED))"
	@echo "  DEVICE     auto, cpu, cuda or mps (now $(DEVICE))"
	@echo '  NOTEBOOKS  some of the notebooks, e.g. NOTEBOOKS="02_birds 05_figures"'
	@echo "  PYTHON     the Python 3.11 to 3.13 to make the environment with, if there is none yet"
	@echo "  PORT       where make serve shows the book (now $(PORT))"
	@echo "  ARGS       more words for pytest in make test, e.g. ARGS='-k explainer'"

setup: $(READY) ## make the environment .venv from requirements.lock

# An environment whose Python has gone (an upgrade took it away, or put another in its place, which
# has none of the packages) is made anew, too.
has_packages = import os, sysconfig; assert os.path.isdir(sysconfig.get_path("purelib"))
gone:
$(READY): pyproject.toml requirements.lock \
		$(shell "$(RUN_PYTHON)" -c '$(has_packages)' 2>/dev/null || echo gone)
	@sh milr/companion/setup.sh "$(VENV)" "$(PYTHON)"

reproduce: $(READY) ## run the notebooks, validate them and build the book
	@$(RUN_PYTHON) -m milr.companion.reproduce $(RUN) --only $(NOTEBOOKS)

# One process per core with one thread each: more threads would only wait for each other. Notebooks
# first and files in order: else long ones of few tests come last, and one process works alone. The
# path is for what tests start: the environment knows the checkout that it was made in, and this one
# may have been copied or moved since.
test: $(READY) ## run all tests, and the notebooks against their reference outputs
	@PYTHONPATH="$(CURDIR)" IPYTHONDIR="$(CURDIR)/build/ipython" MATPLOTLIBRC=/dev/null \
		OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(RUN_PYTHON) -m pytest \
		notebooks tests --nbval --nbval-current-env \
		--dist loadfile --no-loadscope-reorder -n $(CORES) $(ARGS)

book: $(READY) ## build the book of the notebooks that were run
	@$(RUN_PYTHON) -m milr.companion.reproduce $(RUN) --only $(NOTEBOOKS) --step book

serve: $(READY) ## show the book on http://localhost:PORT
	@$(RUN_PYTHON) -m milr.companion.serve --port $(PORT) $(RUN)

validate: $(READY) ## run the notebooks a second time and compare all they print
	@$(RUN_PYTHON) -m milr.companion.reproduce $(RUN) --only $(NOTEBOOKS) --step validate

reference: $(READY) ## refresh the reference outputs that are stored in the notebooks
	@$(RUN_PYTHON) -m milr.companion.reference $(NOTEBOOKS)

keep: PROFILE = full
keep: $(READY) ## keep the numbers of a run (full, unless PROFILE is given) as the reference
	@$(RUN_PYTHON) -m milr.companion.full $(RUN) --only $(NOTEBOOKS)

bench: $(READY) ## measure speed and memory (benchmarks/)
	@for file in benchmarks/*.py; do echo "$$file"; \
		PYTHONPATH="$(CURDIR)" $(RUN_PYTHON) "$$file" || exit 1; done

clean: ## remove build/ of this checkout: all that was computed, trained weights included
	rm -rf build

data-cub: $(READY) ## download the CUB photographs (1.1 GB) to the data folder
	@$(RUN_PYTHON) -m milr.data.download cub

lock: $(READY) ## resolve pyproject.toml anew into requirements.lock
	$(VENV)/bin/uv pip compile pyproject.toml --extra peers --group book --group dev --universal \
		--python-version 3.11 --generate-hashes --no-annotate --no-header -o requirements.lock
