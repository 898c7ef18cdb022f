"""Finding things by name: the house's, a user's, and what is said when there is nothing."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from vlm_selfalign.core import registry
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import fold, method, resolve


@method
def greeting(
    times: Annotated[int, Field(ge=1)] = 2,
    loud: bool = False,
    language: Literal["en", "fr"] = "en",
    names: tuple[str, ...] = (),
):
    """Says hello."""
    return (times, loud, language, names)


@fold
def needs(limit: float):
    return limit


def bare(times: int = 1):
    return times


def test_settings_are_checked_against_the_signature():
    assert greeting() == (2, False, "en", ())
    assert greeting(3, True) == greeting(times=3, loud=True) == greeting.build({"times": "3", "loud": "true"})
    assert greeting(names=["a"])[-1] == ("a",)
    assert greeting.doc == "Says hello."
    assert greeting.parameters == ["times", "loud", "language", "names"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tims": 1}, r"stages.x.tims: unknown key; did you mean 'times'\?"),
        ({"times": 0}, r"stages.x.times: input should be greater than or equal to 1 \(got 0\)"),
        ({"times": "many"}, r"stages.x.times: input should be a valid integer.*\(got 'many'\)"),
        ({"language": "de"}, r"stages.x.language: input should be 'en' or 'fr' \(got 'de'\)"),
    ],
)
def test_wrong_settings_name_their_path_and_the_nearest_key(settings, message):
    with pytest.raises(UserError, match=message):
        greeting.build(settings, "stages.x")


def test_a_missing_setting_is_named():
    with pytest.raises(UserError, match="limit: missing"):
        needs()


def test_too_many_positional_settings_are_refused():
    with pytest.raises(TypeError, match="takes 4 settings, got 5"):
        greeting(1, True, "en", (), "more")


def test_filled_shows_defaults_as_json():
    assert greeting.filled({"times": 5}) == {"times": 5, "loud": False, "language": "en", "names": []}


def test_by_module_and_name_with_or_without_the_decorator():
    assert resolve("method", f"{__name__}:greeting") is greeting
    assert resolve("method", f"{__name__}:bare")(times=4) == 4


@pytest.mark.parametrize("name", ["no_such_module:x", "json:no_such_thing"])
def test_what_cannot_be_loaded_says_why(name):
    with pytest.raises(UserError, match=f"stages.x.method: cannot load method '{name}': "):
        resolve("method", name, "stages.x.method")


def test_kinds_are_not_mixed_up():
    with pytest.raises(UserError, match="is a fold, not a method"):
        resolve("method", f"{__name__}:needs")


def test_unknown_names_get_the_nearest_known(monkeypatch):
    monkeypatch.setattr(registry, "_found", {("method", "blindfold"): greeting})
    monkeypatch.setattr(registry, "_import_rooms", lambda kind: None)
    with pytest.raises(UserError, match=r"m: no method called 'blindfld'; did you mean 'blindfold'\?"):
        resolve("method", "blindfld", "m")


def test_entry_points_are_found_by_name(monkeypatch):
    entry = importlib.metadata.EntryPoint("installed", f"{__name__}:bare", "vlm_selfalign.method")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] * (group == "vlm_selfalign.method"))
    assert resolve("method", "installed")(times=6) == 6
    assert "installed" in registry.known("method")


def file_at(folder: Path, module: str, text: str):
    path = folder / f"{module.replace('.', '_')}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(module, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)
    return loaded


METHOD = "from vlm_selfalign.core.registry import method\n\n@method\ndef {name}(x: int = 1):\n    return {value}\n"


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty register; modules made in the test vanish after it."""
    monkeypatch.setattr(registry, "_found", {})
    monkeypatch.setattr(registry, "_import_rooms", lambda kind: None)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize("users_first", [True, False])
def test_a_users_file_may_take_a_name_of_the_house(fresh, users_first):
    made = [("mine", 1), ("vlm_selfalign.methods.theirs", 2)]
    for module, value in made if users_first else made[::-1]:
        file_at(fresh, module, METHOD.format(name="same", value=value))
    assert resolve("method", "same")() == 2
    assert resolve("method", "mine:same")() == 1


def test_two_of_the_house_may_not_share_a_name(fresh):
    file_at(fresh, "vlm_selfalign.methods.one", METHOD.format(name="same", value=1))
    with pytest.raises(ValueError, match="two methods are called 'same'"):
        file_at(fresh, "vlm_selfalign.methods.two", METHOD.format(name="same", value=2))


def test_a_trailing_underscore_keeps_off_a_keyword(fresh):
    file_at(fresh, "mine", METHOD.format(name="return_", value=1))
    assert resolve("method", "return")() == 1


def test_the_source_hash_sees_every_change_and_no_path(fresh):
    hashes = []
    for module, value in (("one", 1), ("two", 1), ("three", 2)):
        loaded = file_at(fresh, module, METHOD.format(name="same", value=value))
        hashes.append(loaded.same.source_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_notebooks_cell_has_a_source_hash(monkeypatch):
    import linecache

    text = "def cell(x: int = 1):\n    return x\n"
    name = "/tmp/no_such_kernel/1234.py"
    monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(True), name))
    space = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), space)
    assert len(registry.Plugin("method", "cell", space["cell"]).source_hash) == 32
