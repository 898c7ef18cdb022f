"""A whole measurement on drawn clips by a played model: every temporal measure, its parts, the page with strips."""

import json
import re

import pytest

import vlm_selfalign as sa
from vlm_selfalign.data.world.clips import clip
from vlm_selfalign.scoring.events import read_events
from vlm_selfalign.scoring.happenings import events_of, happened

from .played_clips import WORDS, plays

RECIPE = """
name: played
data: {source: worldclip, limit: 12, vocabulary: world_clips}
model: {path: "tiny:qwen2_5_vl", media: {frames: 8}}
stages:
  candidates: {method: mirror_candidates, samples: 3}
  pairs: {fold: balance, rows: candidates}
measure:
  limit: 30
  probes: {captions: {}, events: {frames: [2]}, reversal: {}, self_questions: {spatial: 2, temporal: 2}, existence: {}}
  temperatures: [1.0]
  sentences: [2]
  resamples: 200
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    (folder / "played.yaml").write_text(RECIPE)
    policy, lines = sa.Scripted(plays), []
    result = sa.run(folder / "played.yaml", f"out={folder}/run", services={"policy": policy}, show=lines.append)
    return result, policy, lines


def test_every_temporal_measure_is_reported(run):
    result, *_ = run
    (start,) = [arm for arm in result.metrics["arms"] if arm["name"] == "start"]
    found = {name: estimate["value"] for name, estimate in start["measures"].items()}
    assert (result.metrics["primary"], result.metrics["recall"], result.metrics["place"]) == (
        "event_chair_i", "event_recall", "clip",
    )  # fmt: skip
    assert 0.05 < found["event_chair_i"] < 0.6 and found["event_recall"] > 0.7, "the teacher tells what is believed"
    assert found["order_accuracy"] > 0.95 and 0 <= found["reversal_agreement"] < 0.6
    assert found["event_questions"] == found["event_questions/both_right"] == 1
    assert found["event_questions/yes_difference"] == 0 and "event_questions/no_difference" not in found
    assert found["order_questions"] == 0.5 and found["order_questions/both_right"] == 0
    assert found["order_questions/yes_difference"] == 0.5 and found["order_questions/false_positive_ratio"] == 1
    assert found["questions_answerable"] == 1 and 0 < found["questions_fit_wrong_clip"] < 1
    assert found["existence_adversarial"] == 1


def test_event_chair_is_recounted_from_the_texts(run):
    result, *_ = run
    words = WORDS.event_words
    items = [json.loads(line) for line in (result.folder / "items.jsonl").read_text().splitlines()]
    chair = [i for i in items if (i["arm"], i["measure"]) == ("start", "event_chair_i")]
    by_clip = {i["sample"]: (i["num"], i["den"]) for i in chair}
    shown = result.metrics["captions"]["start"]
    truths = {s.id: s.truth for s in sa_samples(result)}
    for sample, caption in shown.items():
        told = [c for c in read_events(caption["text"], WORDS, words) if not c.negated]
        false = [c for c in told if not happened(c, events_of(truths[sample]), words)]
        assert by_clip[sample] == (len(false), len(told))
        assert {(c.start, c.end) for c in false} <= {tuple(span) for span in caption["false"]}


def sa_samples(result):
    from vlm_selfalign.samples import test_samples

    return list(test_samples(result.settings))


def test_intervals_resample_clips_not_questions(run):
    result, *_ = run
    items = [json.loads(line) for line in (result.folder / "items.jsonl").read_text().splitlines()]
    ids = {sample.id for sample in sa_samples(result)}
    assert {i["sample"] for i in items if i["measure"].startswith("event_questions")} <= ids


def test_fewer_frames_are_a_part_of_their_own(run):
    result, policy, _ = run
    parts = [(p["measure"], p["by"], p["part"]) for p in result.metrics["parts"]]
    assert ("event_questions", "frames", "2") in parts and ("event_questions", "frames", "8") in parts
    views = {v for r in policy.requests if hasattr(r, "prompt") for m in r.prompt.media for v in m.views}
    assert {("drop", 0.75), ("reverse", 1.0)} == {(view.name, view.amount) for view in views}


def test_questions_name_a_clip_a_clip(run):
    asked = {r.prompt.question for r in run[1].requests if isinstance(r, sa.Choose)}
    assert any("in the clip?" in question for question in asked)
    assert not any("image" in question or "picture" in question for question in asked)


def test_the_page_shows_strips_parts_and_own_questions(run):
    result, *_ = run
    page = (result.folder / "report.html").read_text()
    assert page.count('class="times"') >= 12 and "<span>0.2 s</span>" in page
    for text in ("Event CHAIRᵢ", "by number of frames", "What it asks itself", "Did it happen, both right", "per clip"):
        assert text in page, text
    assert clip(0).kind == "video" and "not shown" not in page
    audit = result.metrics["audit"]
    assert audit is None, "nothing was fitted, so no pairs were audited"


def test_a_run_ends_with_what_it_took_beside_models_and_data(run):
    *_, lines = run
    (said,) = [line for line in lines if line.startswith("making rows took")]
    whole, share, *own = (float(number) for number in re.findall(r"(\d+\.\d+)(?: s|%)", said))
    assert 0 < share < 100 and share * whole / 100 == pytest.approx(sum(own), abs=0.2)
