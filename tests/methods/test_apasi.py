"""APASI: golden weights, exact spans, and what it never does."""

import random
from collections import Counter

import pytest

from vlm_selfalign.core.driver import Driver
from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.requests import Choose, Generate
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.methods.apasi import OPENINGS, apasi, cooccurrence, injected_places, place_weights
from vlm_selfalign.models.scripted import Scripted

PHOTO = Media(kind="image", uri="photo.png", content_hash="00")
PROMPT = Prompt.user("Describe the image.", PHOTO)
SAMPLE = Sample.of(PROMPT).seeded(0, 0)
CAPTION = "There is a boat in red. There is a car in blue. There is a house in green. There is a cup in white."
GRAPH = {
    "count": {"boat": 4, "fish": 3, "car": 2, "star": 1},
    "together": {k: {"fish": 3, "star": 1} for k in ("boat", "car", "house", "cup")},
}


def test_place_weights_are_one_first_and_two_last():
    assert place_weights(8) == pytest.approx([1, 1.2517, 1.4448, 1.6076, 1.7511, 1.8807, 2], abs=1e-4)
    assert place_weights(2) == [1.0]


def test_single_draws_follow_the_weights():
    drawn = Counter(injected_places(8, 1 / 8, 1, random.Random(i))[0] for i in range(20_000))
    expected = [0.0914, 0.1145, 0.1321, 0.1470, 0.1601, 0.1720, 0.1829]
    assert [drawn[place] / 20_000 for place in range(1, 8)] == pytest.approx(expected, abs=0.011)


@pytest.mark.parametrize(("count", "kept"), [(2, 0), (3, 1), (7, 1), (8, 2), (12, 2)])
def test_a_fifth_of_the_sentences_is_replaced_or_the_sample_dropped(count, kept):
    if not kept:
        with pytest.raises(Drop):
            injected_places(count, 0.2, 1, random.Random(0))
    else:
        places = injected_places(count, 0.2, 1, random.Random(0))
        assert len(places) == kept and 0 not in places


def one_pair(answers, **settings):
    policy = Scripted(answers)
    run = apasi(vocabulary="world", **settings)
    driver = Driver({"policy": policy})
    (finished,) = driver.run_block(lambda s: run(s, [Demo(prompt=PROMPT, answer=CAPTION)], GRAPH), [SAMPLE])
    return finished, policy


def blind_writer(request):
    if isinstance(request, Choose):
        return {"Yes": 0.1, "No": 0.9}
    return request.prompt.opening + " in yellow."


def test_only_the_injected_sentence_differs_and_its_spans_are_exact():
    finished, _policy = one_pair(blind_writer, rate=0.25)
    (pair,) = finished.rows
    (chosen,), (rejected,) = pair.chosen_spans, pair.rejected_spans
    assert pair.chosen == CAPTION
    assert pair.chosen[: chosen[0]] == pair.rejected[: rejected[0]]
    assert pair.chosen[chosen[1] :] == pair.rejected[rejected[1] :]
    assert pair.chosen[slice(*chosen)].startswith("There is a") and chosen[0] > 0
    (guide,) = pair.notes["injected"]
    assert guide in {"fish", "star"} and guide in pair.rejected[slice(*rejected)] and guide not in CAPTION
    assert pair.rejected[slice(*rejected)].endswith("in yellow.")


def test_the_picture_is_never_shown_while_injecting():
    _, policy = one_pair(blind_writer, rate=0.25)
    written = [request for request in policy.requests if isinstance(request, Generate)]
    assert written and all(request.prompt.media == () for request in written)
    assert all(request.prompt.opening for request in written)


def test_an_object_that_the_model_sees_is_not_injected():
    def sees_fish(request):
        if isinstance(request, Choose):
            return {"Yes": 0.9, "No": 0.1} if "fish" in request.prompt.question else {"Yes": 0.1, "No": 0.9}
        return request.prompt.opening + " in yellow."

    finished, _ = one_pair(sees_fish, rate=0.25)
    assert finished.rows[0].notes["injected"] == ["star"]


def test_a_sample_is_dropped_when_everything_likely_is_there():
    finished, _ = one_pair(lambda r: {"Yes": 0.9, "No": 0.1} if isinstance(r, Choose) else "x", rate=0.25)
    assert finished.drop and not finished.rows


def test_the_graph_is_symmetric_and_bounded():
    texts = ["There is a boat in red. There is a fish in blue.", "There is a boat in red.", "There is a car in red."]
    graph = cooccurrence(vocabulary="world")([Demo(prompt=PROMPT, answer=text) for text in texts])
    assert graph["count"] == {"boat": 2, "car": 1, "fish": 1}
    assert graph["together"]["boat"] == {"fish": 1} and graph["together"]["fish"] == {"boat": 1}


def test_openings_are_twenty_and_take_one_object():
    assert len(set(OPENINGS)) == 20 and all(opening.count("{}") == 1 for opening in OPENINGS)
