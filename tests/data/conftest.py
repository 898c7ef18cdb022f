"""No test of a source touches the cache of whoever runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_selfalign.data.cache import VARIABLE


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder
