"""Every shipped recipe runs at smoke size, from its YAML to its page, and runs again without doing anything again."""

import json
import re
from pathlib import Path

import pytest

import vlm_selfalign as sa
from vlm_selfalign.config import load_settings, shipped

RECIPES = sorted(path.stem for path in shipped("data_recipes").glob("*.yaml"))
CONFIGS = sorted(path.stem for path in shipped("configs").glob("*.yaml"))
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_fits_every_recipe(recipe, config):
    assert load_settings([recipe, config]).name == recipe


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_runs_at_smoke_size_from_anywhere(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    result = sa.run(recipe, "size=smoke", f"out={tmp_path}/run", show=lines.append)
    assert any(line.startswith("page: ") for line in lines)
    made = ("run.json", "metrics.json", "report.html", "drops.jsonl", "items.jsonl", "rounds/0/policy/MANIFEST.json")
    for name in made:
        assert (result.folder / name).is_file(), name
    assert (result.policy / "model.safetensors").is_file()
    log = [json.loads(line) for line in (result.policy / "log.jsonl").read_text().splitlines()]
    assert log and all(line["loss"] == line["loss"] for line in log)
    arms = {arm["name"] for arm in result.metrics["arms"]}
    assert {"start", "trained"} <= arms

    before = {path: path.read_bytes() for path in result.folder.glob("rounds/**/*.jsonl")}
    again = sa.run(recipe, "size=smoke", f"out={tmp_path}/run", show=lambda line: None)
    assert {path: path.read_bytes() for path in before} == before
    assert again.metrics["arms"] == result.metrics["arms"]


def test_the_readme_python_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})
    assert "chair_i" in capsys.readouterr().out


def test_the_method_in_contributing_runs_as_it_stands():
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    space: dict = {"__name__": "contributed"}
    exec(compile(snippet, "CONTRIBUTING.md", "exec"), space)
    photo = sa.Media(kind="image", uri="photo.png", content_hash="00")

    def scripted(request):
        if "questions" in request.prompt.question:
            return "- What is it?\n- What colour is it?"
        return "Fog." if request.prompt.media[0].views else "A red car."

    driver = sa.Driver({"policy": sa.Scripted(scripted)})
    (finished,) = driver.run_block(space["blindfold"](questions=2), [sa.Sample.of(sa.Prompt.user("", photo))])
    assert not finished.error, finished.error
    assert [(pair.chosen, pair.rejected) for pair in finished.rows] == [("A red car.", "Fog.")] * 2
