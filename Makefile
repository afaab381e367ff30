# The commands of the house. `make setup` prepares the machine; everything else does it first.
.PHONY: setup demo test lint bench soak lock

export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/lambay/target

setup:
	@scripts/setup

demo: setup
	@.venv/bin/python examples/semantic-search/demo.py

test: setup
	@scripts/guest
	@scripts/setup-tests
	cargo test --quiet --release --locked
	.venv/bin/pytest

soak: setup
	.venv/bin/pytest -m soak

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	cargo fmt --check
	cargo clippy --quiet --release --locked --all-targets -- -D warnings

bench: setup
	.venv/bin/python -m bench

# Pins every package with its hashes, for every Python the project supports.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --extra dev pyproject.toml requirements.in -o requirements.lock
