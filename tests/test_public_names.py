"""The public names: all there, loaded on first use, torch-free until a model is."""

import subprocess
import sys

import vlm_selfalign as sa
from vlm_selfalign import media


def test_every_public_name_is_there():
    assert set(sa.__all__) == {*sa._WHERE, "__version__"}
    for name in sa.__all__:
        assert getattr(sa, name) is not None


def test_every_public_name_of_media_is_there():
    assert set(media.__all__) == set(media._WHERE)
    for name in media.__all__:
        assert getattr(media, name) is not None


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, vlm_selfalign as sa; sa.Pair, sa.method"
    code += "; print(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
