"""What is learnt from and what is measured on never meet."""

import json

import pytest

from vlm_selfalign.config import load_settings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.samples import test_samples as held_out
from vlm_selfalign.samples import training_samples


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
