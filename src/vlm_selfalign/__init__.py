"""Vision-language models that train themselves.

::

    import vlm_selfalign as sa

    result = sa.run("mirror", "size=smoke", "out=runs/first")
    result.headline
    result.rows("pairs")[0]

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Libraries below would report each training to their makers; nothing leaves this machine unless the user asks.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

_WHERE = {
    "Choose": "core.requests",
    "Decoder": "core.driver",
    "Demo": "core.rows",
    "Driver": "core.driver",
    "Drop": "core.errors",
    "Generate": "core.requests",
    "Group": "core.rows",
    "Media": "core.media",
    "Pair": "core.rows",
    "Prompt": "core.prompts",
    "Sample": "core.prompts",
    "Sampling": "core.requests",
    "Score": "core.requests",
    "Scripted": "models.scripted",
    "Steps": "core.steps",
    "ask": "core.steps",
    "ask_all": "core.steps",
    "fold": "core.registry",
    "load_settings": "config",
    "method": "core.registry",
    "parse_list": "core.parse",
    "run": "api",
    "together": "core.steps",
}

__version__ = "0.1.0"
__all__ = [
    "Choose",
    "Decoder",
    "Demo",
    "Driver",
    "Drop",
    "Generate",
    "Group",
    "Media",
    "Pair",
    "Prompt",
    "Sample",
    "Sampling",
    "Score",
    "Scripted",
    "Steps",
    "__version__",
    "ask",
    "ask_all",
    "fold",
    "load_settings",
    "method",
    "parse_list",
    "run",
    "together",
]

if TYPE_CHECKING:
    from vlm_selfalign.api import run as run
    from vlm_selfalign.config import load_settings as load_settings
    from vlm_selfalign.core.driver import Decoder as Decoder
    from vlm_selfalign.core.driver import Driver as Driver
    from vlm_selfalign.core.errors import Drop as Drop
    from vlm_selfalign.core.media import Media as Media
    from vlm_selfalign.core.parse import parse_list as parse_list
    from vlm_selfalign.core.prompts import Prompt as Prompt
    from vlm_selfalign.core.prompts import Sample as Sample
    from vlm_selfalign.core.registry import fold as fold
    from vlm_selfalign.core.registry import method as method
    from vlm_selfalign.core.requests import Choose as Choose
    from vlm_selfalign.core.requests import Generate as Generate
    from vlm_selfalign.core.requests import Sampling as Sampling
    from vlm_selfalign.core.requests import Score as Score
    from vlm_selfalign.core.rows import Demo as Demo
    from vlm_selfalign.core.rows import Group as Group
    from vlm_selfalign.core.rows import Pair as Pair
    from vlm_selfalign.core.steps import Steps as Steps
    from vlm_selfalign.core.steps import ask as ask
    from vlm_selfalign.core.steps import ask_all as ask_all
    from vlm_selfalign.core.steps import together as together
    from vlm_selfalign.models.scripted import Scripted as Scripted


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"vlm_selfalign has no '{name}'")
    return getattr(importlib.import_module(f"vlm_selfalign.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
