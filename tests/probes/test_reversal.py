import pytest

from vlm_selfalign.core.errors import Drop
from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt, Sample
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.requests import Text

CLIP = Sample.of(Prompt.user("Describe the clip.", Media(kind="video", uri="a.mp4", content_hash="0" * 32)))


def told(forwards, back):
    steps = resolve("probe", "reversal")()(CLIP)
    first, second = next(steps)
    assert first.prompt == CLIP.prompt and second.prompt.media[0].views[0].name == "reverse"
    with pytest.raises(StopIteration) as done:
        steps.send([Text(text=forwards), Text(text=back)])
    return done.value.value[0]


def test_two_tellings_of_one_clip():
    row = told("A ball appears. Then the car moves left.", "The car moves right. Then a star vanishes.")
    assert (row.notes["num"], row.notes["den"], row.label) == (2, 4, 0.5)
    assert row.notes["backwards"].startswith("The car") and row.notes["measure"] == "reversal_agreement"


def test_who_does_not_see_time_tells_the_same_twice():
    assert told("The car moves left.", "The car moves left.").label == 0


def test_without_clip_or_event_there_is_nothing_to_compare():
    with pytest.raises(Drop, match="no clip"):
        next(resolve("probe", "reversal")()(Sample.of(Prompt.user("Describe."))))
    steps = resolve("probe", "reversal")()(CLIP)
    next(steps)
    with pytest.raises(Drop, match="no event is told"):
        steps.send([Text(text="There is a car."), Text(text="The car does not move.")])
