"""The tiny open_clip model of the drawn world: what it is, what it learns from, how it learns, what it must pass."""

from pathlib import Path

import vlm_selfalign.models

SHIPPED = Path(vlm_selfalign.models.__file__).parent / "clip_tiny"
"""The trained model, as open_clip's ``local-dir:`` and ``ClipService`` load it."""
