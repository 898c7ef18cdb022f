"""Who may import whom, read from the sources; and what an import costs, in a fresh process."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "src" / "vlm_selfalign"
FILES = sorted(ROOT.rglob("*.py"))

HEAVY = {
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "bitsandbytes",
    "open_clip",
    "decord",
    "av",
    "torchcodec",
}
HEAVY_ROOMS = {"models", "train", "media", "pretrain", "graft"}

BELOW = {"core", "config"}
MAY_USE: dict[str, set[str]] = {
    "core": set(),
    "config": {"core"},
    "media": BELOW,
    "scoring": BELOW,
    **{room: BELOW | {"media", "scoring"} for room in ("data", "decoding", "probes", "metrics", "report", "models")},
    "methods": BELOW | {"media", "scoring", "decoding"},
    "train": BELOW | {"media", "scoring", "models"},
    "pretrain": BELOW | {"media", "scoring", "data"},
    "graft": BELOW | {"media", "scoring", "data", "models", "pretrain"},
}
"""Rooms, and what each may import. Files beside ``config`` (``cli``, ``recipe``, ...) stand above all rooms."""

SHARED_WITH_TRAIN = {"answer_adapters", "families", "load", "encode", "looks"}
"""What of ``models`` training may use: how a model is loaded, what its family calls things, how texts and what they
show are encoded."""

ABOVE = {path.stem for path in ROOT.glob("*.py")} - {"config", "__init__"}


def room_of(path: Path) -> str:
    """The folder under the package, or the file that stands beside the rooms."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def imported(path: Path) -> tuple[tuple[int, str], ...]:
    """Every import of a file, inside functions and for type checking too: line and dotted name."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[int, str]]:
    package = ["vlm_selfalign", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)


def names_of_ours(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Imports from the package, as dotted parts below it."""
    for line, name in imported(path):
        parts = name.split(".")
        if parts[0] == "vlm_selfalign" and len(parts) > 1:
            yield line, parts[1:]


def test_every_folder_is_a_room_with_a_place():
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders == set(MAY_USE) - {"config"}


@pytest.mark.parametrize("room", MAY_USE)
def test_rooms_import_only_what_lies_below(room):
    breaches = [
        f"{path.relative_to(ROOT)}:{line} imports {'.'.join(used)}"
        for path in FILES
        if room_of(path) == room
        for line, used in names_of_ours(path)
        if used[0] not in MAY_USE[room] | {room}
    ]
    assert breaches == []


def test_train_uses_of_models_only_what_they_share():
    breaches = [
        f"{path.relative_to(ROOT)}:{line} imports {'.'.join(used)}"
        for path in FILES
        if room_of(path) == "train"
        for line, used in names_of_ours(path)
        if used[0] == "models" and not set(used[1:2]) & SHARED_WITH_TRAIN
    ]
    assert breaches == []


def test_nothing_imports_the_command_line():
    breaches = [
        str(path) for path in FILES for _, used in names_of_ours(path) if used[0] == "cli" and path.stem != "cli"
    ]
    assert breaches == []


def test_files_above_the_rooms_do_not_go_in_circles():
    uses = {path.stem: {used[0] for _, used in names_of_ours(path)} & ABOVE for path in ROOT.glob("*.py")}
    del uses["__init__"]
    while free := [name for name, needs in uses.items() if not needs & set(uses) - {name}]:
        for name in free:
            del uses[name]
    assert uses == {}


def test_heavy_libraries_stay_in_their_rooms():
    breaches = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in FILES
        if room_of(path) not in HEAVY_ROOMS
        for line, name in imported(path)
        if name.split(".")[0] in HEAVY
    ]
    assert breaches == []


# Nobody asks whether there is an image

CHECKS_ITSELF = {("core/prompts.py", "_media_parts_index_media")}
"""A prompt's own validation: that its parts index its media. It holds of none as of many."""


MEDIA = {"media", "pictures", "images"}
"""What a prompt's media are called, as an attribute or as a local name of several; one medium may be asked about."""


def conditions(tree: ast.AST) -> Iterator[ast.expr]:
    """Everything whose truth decides something."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
            yield node.test
        elif isinstance(node, ast.BoolOp):
            yield from node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node.operand
        elif isinstance(node, ast.comprehension):
            yield from node.ifs
        elif isinstance(node, ast.match_case) and node.guard:
            yield node.guard
        elif isinstance(node, ast.Match):
            yield node.subject
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"bool", "any", "all"}:
            yield from node.args


def holds_media(node: ast.AST, names: set[str]) -> bool:
    """Whether an expression has to do with a prompt's media, by the attribute or by a local name for it."""
    return any(
        (isinstance(part, ast.Attribute) and part.attr in MEDIA) or (isinstance(part, ast.Name) and part.id in names)
        for part in ast.walk(node)
    )


def named_after_media(function: ast.AST) -> set[str]:
    """Local names that were given a prompt's media, directly or through one another."""
    names = {"pictures", "images"}
    for _ in range(3):
        for node in ast.walk(function):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            value = getattr(node, "value", None)
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and value and holds_media(value, names):
                names |= {t.id for target in targets if target for t in ast.walk(target) if isinstance(t, ast.Name)}
    return names


def questions_about_media(source: str) -> list[tuple[str, int]]:
    """Functions and lines in which a decision hangs on a prompt's media."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.FunctionDef, ast.Lambda))]
    return [
        (getattr(function, "name", "lambda"), condition.lineno)
        for function, names in ((function, named_after_media(function)) for function in functions)
        for condition in conditions(function)
        if holds_media(condition, names)
    ]


BLIND_ROOMS = [p for p in FILES if room_of(p) in {"core", "data", "scoring"} or p.match("train/losses*")]


@pytest.mark.parametrize("path", BLIND_ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_hangs_on_whether_there_is_an_image(path):
    place = str(path.relative_to(ROOT))
    found = [
        (name, line) for name, line in questions_about_media(path.read_text()) if (place, name) not in CHECKS_ITSELF
    ]
    assert found == []


@pytest.mark.parametrize(
    "asking",
    [
        "if prompt.media: pass",
        "x = 1 if len(prompt.media) > 0 else 2",
        "return not prompt.media",
        "return prompt.media and 1",
        "return [p for p in prompts if p.media]",
        "pictures = prompt.media\n    many = len(pictures)\n    while many: pass",
        "return any(prompt.media)",
        "assert row.prompt.media == ()",
        "match prompt.media:\n        case (): pass",
        "if (found := sample.prompt.media): pass",
    ],
)
def test_the_search_finds_such_questions(asking):
    assert questions_about_media(f"def asks(prompt, row, prompts, sample):\n    {asking}\n")


@pytest.mark.parametrize("fine", ["return tuple(m.viewed('grey') for m in prompt.media)", "if prompt.question: pass"])
def test_the_search_lets_others_be(fine):
    assert not questions_about_media(f"def asks(prompt):\n    {fine}\n")


# What an import costs


def fresh(code: str) -> dict:
    """Run code in a new process; it prints JSON last, we add the CPU seconds it took."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COVERAGE_PROCESS_START": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout.splitlines()[-1])
    return {"found": found, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


LOADED = f"print(json.dumps(sorted({HEAVY!r} & set(sys.modules))))"


def test_the_core_loads_nothing_heavy():
    modules = [
        ".".join(("vlm_selfalign", *p.relative_to(ROOT).with_suffix("").parts)) for p in FILES if room_of(p) == "core"
    ]
    code = f"import importlib, json, sys\nfor name in {modules!r}: importlib.import_module(name)\n{LOADED}"
    assert fresh(code)["found"] == []


@pytest.mark.skipif(not (ROOT / "cli.py").exists(), reason="no command line yet")
def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import json, sys\nsys.argv = ['vlm-selfalign', '--help']\nfrom vlm_selfalign.cli import main\n"
        f"try:\n    main()\nexcept SystemExit as done:\n    assert not done.code, done.code\n{LOADED}"
    )
    runs = [fresh(code) for _ in range(3)]
    assert runs[0]["found"] == []
    assert min(run["cpu"] for run in runs) < 0.5
