# `make demo` and `make test` need Python 3.11, make and a C++ compiler, and nothing else.
PYTHON ?= python3
VENV := .venv
JOBS ?= 2

.PHONY: demo test long-test board-test netlist-test asic-test mutants lint wheel-test docs clean

demo: $(VENV)/installed
	$(VENV)/bin/systolith demo

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n $(JOBS)

# More planted faults, larger networks and real synthesis, which `make test` leaves out: minutes.
long-test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n $(JOBS) -m slow

# Every open flow to a bitstream of its board, with the real tools, and a netlist that replays a layer:
# some minutes.
board-test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[boards]'
	SYSTOLITH_BOARDS=1 $(VENV)/bin/python -m pytest -k 'real_tools or netlist' \
		tests/gen/flow/test_bitstream.py tests/gen/flow/test_netlist.py

# Which small faults in the sources the tests notice: hours; goes on where it stopped.
mutants: $(VENV)/installed-dev
	$(VENV)/bin/python bench/mutants.py --named
	$(VENV)/bin/python bench/mutants.py

# Cores after synthesis, for gates and for each family whose cells have models, replay a network; one
# with a wrong cell does not: some minutes.
netlist-test: $(VENV)/installed-dev
	SYSTOLITH_NETLISTS=1 $(VENV)/bin/python -m pytest -m '' tests/gen/measure/test_gate_netlist.py

# LibreLane itself reads the configuration that `systolith asic` writes.
asic-test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --editable '.[asic]'
	$(VENV)/bin/python -m pytest tests/gen/measure/test_librelane.py

# mypy follows no import hooks, so that it sees the packages through links.
lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	mkdir -p build/typing/systolith
	for part in hw sim gen constraints; do \
		ln -sfn $(CURDIR)/$$part build/typing/systolith/$$part; done
	ln -sfn $(CURDIR)/gen/api/__init__.py build/typing/systolith/__init__.py
	cd build/typing && $(CURDIR)/$(VENV)/bin/mypy --config-file $(CURDIR)/pyproject.toml \
		--explicit-package-bases -p systolith

# The sdist is whole; the wheel, installed apart from this folder, builds and simulates.
wheel-test: $(VENV)/installed-dev
	$(VENV)/bin/python tests/distribution.py

docs: $(VENV)/installed-dev
	$(VENV)/bin/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict --site-dir build/site

clean:
	rm -rf $(VENV) build

# Stamps: made anew when what pip reads has changed. The install is an editable one, so that
# changed sources need no other.
$(VENV)/installed: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --editable .
	touch $@

$(VENV)/installed-dev: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check --quiet --editable ".[dev]"
	touch $@ $(VENV)/installed
