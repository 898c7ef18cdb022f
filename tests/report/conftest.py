from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from . import made


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its page and cards written."""
    from vlm_selfalign.report.page import write_page

    folder = made.whole_run(tmp_path_factory.mktemp("run") / "mirror", pairs=60)
    write_page(folder)
    return folder


@pytest.fixture
def page_of() -> Callable[[Path], str]:
    from vlm_selfalign.report.page import write_page

    return lambda folder: write_page(folder).read_text()
