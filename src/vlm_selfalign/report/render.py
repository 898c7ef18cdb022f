"""Templates to text: everything that came from a model or a file is escaped, nothing points outside the page."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from vlm_selfalign.report import numbers


def render(template: str, **values: Any) -> str:
    """Fill ``templates/<template>.j2``; text that is no valid Unicode is repaired."""
    text = _environment().get_template(f"{template}.j2").render(**values)
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vlm_selfalign.report"),
        # Markdown too: Hugging Face renders HTML inside it.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    source = environment.loader.get_source(environment, "style.css")[0]  # type: ignore[union-attr]
    environment.globals.update(css=Markup(source), numbers=numbers)
    environment.filters.update(yaml=as_yaml, seconds=numbers.seconds)
    return environment


def as_yaml(value: Any, flow: bool | None = None) -> str:
    """Plain values as YAML in the order given; ``flow`` None puts the innermost mappings on one line."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110, default_flow_style=flow).rstrip()
