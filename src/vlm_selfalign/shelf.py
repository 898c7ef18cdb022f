"""The recipes and configs that ship with the package: list, show, copy."""

from __future__ import annotations

import shutil
from pathlib import Path

from vlm_selfalign.config import find_yaml, read_yaml, shipped
from vlm_selfalign.core.errors import UserError


def list_recipes(name: str = "", to: str = "") -> list[str]:
    """One line per recipe (with what it does) and per config."""
    recipes = [(f.stem, read_yaml(f).get("about", "")) for f in sorted(shipped("data_recipes").glob("*.yaml"))]
    configs = [f.stem for f in sorted(shipped("configs").glob("*.yaml"))]
    width = max((len(stem) for stem, _ in recipes), default=0)
    return [f"{stem:<{width}}  {about}" for stem, about in recipes] + [f"configs: {', '.join(configs)}"]


def show_recipe(name: str, to: str = "") -> list[str]:
    """The YAML itself."""
    return find_yaml(name).read_text().rstrip().splitlines()


def copy_recipe(name: str, to: str = ".") -> list[str]:
    """Copy it to a folder or file, to be changed there."""
    source = find_yaml(name)
    target = Path(to) / source.name if Path(to).is_dir() else Path(to)
    if target.exists():
        raise UserError(f"{target}: exists already; name another place")
    shutil.copyfile(source, target)
    return [f"copied to {target}"]
