"""A backend that is not there says how to get it, and nothing else stands in for it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.media.clips import ORDINARY, make

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.media.readers import reader_of

WITHOUT_PYAV = """
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.folder import folder
from vlm_selfalign.media import load_image, load_video

assert load_image("a.png").size == (8, 8)
assert len(folder(".", kind="image")) == 1
tries = [lambda: folder(".", kind="video")]
tries += [lambda backend=backend: load_video("b.mp4", backend=backend) for backend in ("auto", "pyav", "decord")]
for one in tries:
    try:
        one()
    except UserError as error:
        print(error)
"""


def test_without_pyav_pictures_load_and_clips_say_what_is_missing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    make(ORDINARY[0], tmp_path).rename(tmp_path / "b.mp4")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "av.py").write_text("raise ImportError('a library is missing')")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYAV],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "broken")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout.splitlines()
    assert done.returncode == 0 and len(said) == 4, done.stderr
    assert all("needs a package that is not installed" in line and "a library is missing" in line for line in said)
    assert all(line.endswith("pip install av") for line in said[:3])


def test_an_unknown_backend() -> None:
    with pytest.raises(UserError, match=r"no video backend called 'decrod'.*decord"):
        reader_of("decrod")


def test_only_torchcodec_decodes_elsewhere() -> None:
    for name in ("auto", "decord", "pyav"):
        with pytest.raises(UserError, match="decodes on the CPU only; torchcodec:cuda may do it"):
            reader_of(f"{name}:cuda")


def test_the_device_goes_to_torchcodec() -> None:
    try:
        read = reader_of("torchcodec:cuda")
    except UserError as error:
        pytest.skip(str(error))
    assert pickle.loads(pickle.dumps(read)).keywords == {"device": "cuda"}
