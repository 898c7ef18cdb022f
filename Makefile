PYTHON ?= .venv/bin/python

.PHONY: check lint types test
check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m pyright

test:
	$(PYTHON) -m pytest
