"""What is learnt from and what is measured on never meet."""

import json

import pytest
from PIL import Image

from vlm_selfalign.config import load_settings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.data.cache import VARIABLE
from vlm_selfalign.samples import left_out, source_name, training_samples
from vlm_selfalign.samples import test_samples as held_out


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")


def ids(samples):
    return {sample.id for sample in samples}


def settings(*overrides):
    return load_settings(["self_certainty"], overrides)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"What is {i}?"}) + "\n" for i in range(200)))
    return f"data.path={path}"


def test_a_share_is_held_out_and_nothing_is_lost(prompts):
    found = settings(prompts, "measure.limit=500")
    learnt, measured = ids(training_samples(found)), ids(held_out(found))
    assert not learnt & measured and len(learnt) + len(measured) == 200 and 20 <= len(measured) <= 60


def test_what_is_held_out_does_not_depend_on_how_it_is_measured(prompts):
    one, other = settings(prompts), settings(prompts, "measure.limit=3", "measure.controls=false")
    assert ids(training_samples(one)) == ids(training_samples(other))


@pytest.mark.parametrize("split", ["train", "dev"])
def test_drawn_scenes_are_measured_on_the_test_split_whatever_is_learnt_from(split):
    found = load_settings(["mirror"], ["data.limit=60", f"data.settings.split={split}", "measure.limit=60"])
    assert all(f"world:{split}/" in sample.prompt.media[0].uri for sample in training_samples(found))
    assert all("world:test/" in sample.prompt.media[0].uri for sample in held_out(found))


def test_test_scenes_are_not_for_learning():
    with pytest.raises(UserError, match="measured on"):
        training_samples(load_settings(["mirror"], ["data.settings.split=test"]))


@pytest.mark.parametrize("count", [2, 3, 12])
def test_of_a_few_samples_one_is_held_out(count, tmp_path):
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Name {i} things."}) + "\n" for i in range(count)))
    found = settings(f"data.path={path}", "measure.holdout=.0001")
    learnt, measured = ids(training_samples(found)), ids(held_out(found))
    assert len(measured) == 1 and len(learnt) == count - 1 and not learnt & measured


def test_nothing_is_held_out_when_nothing_is_wanted(prompts):
    found = settings(prompts, "measure.holdout=0")
    assert len(training_samples(found)) == 200 and not len(held_out(found))


def test_what_is_left_out_is_counted_by_reason(tmp_path):
    rows = [{"prompt": "a"}, {"prompt": "a"}, {"image": "x.png"}, {"image": "y.png"}, {"prompt": ""}]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.warns(UserWarning, match="3 of 5 left out"):
        samples = training_samples(settings(f"data.path={path}", "data.settings.max_bad=1", "measure.holdout=0"))
    counted = {"no such file": 2, "asks nothing: the prompt is empty": 1, "the same content as an earlier one": 1}
    assert left_out(samples) == counted and len(samples) == 1


def test_a_source_asks_its_own_question_unless_told(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    Image.new("L", (8, 8), 3).save(path / "a.png")
    asked = [["measure.holdout=0"], ["measure.holdout=0", "data.prompt=What is it?"]]
    found = [next(iter(training_samples(settings(f"data.path={path}", *more)))).prompt.question for more in asked]
    assert found == ["Describe the image.", "What is it?"]


def test_ones_own_files_go_before_a_recipes_drawn_samples(prompts):
    assert source_name(settings("data.source=worldclip").data.model_copy(update={"path": None})) == "worldclip"
    assert source_name(settings("data.source=worldclip", prompts).data) == "jsonl"
