"""Clips: seeded, disjoint, and their frames show what their truth says."""

import itertools
import json

import numpy as np
import pytest

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.registry import resolve
from vlm_selfalign.core.seeds import digest
from vlm_selfalign.data.world.clips import clip, draw_clip
from vlm_selfalign.data.world.clips.draw import draw_story
from vlm_selfalign.data.world.clips.settings import STEPS, ClipSettings
from vlm_selfalign.data.world.clips.stories import address, following, located, story, who
from vlm_selfalign.data.world.clips.truth import clip_truth
from vlm_selfalign.data.world.settings import COLOURS, WorldSettings
from vlm_selfalign.media.errors import MediaError

CLEAN = ClipSettings(world=WorldSettings(noise=0, rotation=0))
STORIES = [story(index, "dev", 2, CLEAN) for index in range(200)]
DRAWN = [(one, draw_story(one, CLEAN)) for one in STORIES[:100]]


def test_same_arguments_same_story_and_frames_in_any_order():
    backwards = [story(index, "dev", 2, CLEAN) for index in reversed(range(10))]
    assert backwards[::-1] == STORIES[:10]
    first, second = draw_story(story(7)), draw_story(story(7))
    assert first.frames.tobytes() == second.frames.tobytes() != draw_story(story(8)).frames.tobytes()
    assert first.frames.shape == (16, 64, 64, 3) and first.frames.dtype == np.uint8
    assert first.times.tolist() == [k / 4 for k in range(16)]
    assert (len(first), first.fps, first.total, first.duration, first.quality) == (16, 4.0, 16, 4.0, "ok")


def test_stories_keep_the_rules():
    for one in STORIES:
        known = clip_truth(one, CLEAN)
        assert json.loads(json.dumps(known)) == known
        assert 2 <= len(one.events) <= 4 and len(set(one.kinds)) == len(one.kinds)
        ends = [0.0, *(event.end for event in one.events)]
        assert all(end < event.start < event.end for end, event in zip(ends, one.events, strict=False))
        assert ends[-1] <= 15 / 4
        there = set(one.kinds) - one.appearing
        counts = [len(there)]
        for event in one.events:
            assert (event.kind in there) == (event.action != "appear")
            assert (event.other in there) == (event.action == "meet")
            assert (event.direction in STEPS) == (event.action in ("move", "meet"))
            there ^= {event.kind} if event.action in ("appear", "vanish") else set()
            counts += [len(there)] if event.action in ("appear", "vanish") else []
            assert there
        assert [count for _, count in known["counts"]] == counts


def test_all_actions_and_directions_come_up():
    events = [event for one in STORIES for event in one.events]
    for action in ("move", "meet", "appear", "vanish"):
        assert sum(event.action == action for event in events) > 30
    for direction in STEPS:
        assert sum(event.direction == direction for event in events) > 30


def test_splits_share_no_story():
    def shares(split):
        found = set()
        for seed in range(40):
            one = story(0, split, seed)
            shown = tuple((t.kind, t.colour, t.row, t.col) for t in one.things), tuple(e.said for e in one.events)
            found.add(int(digest(shown, size=4), 16) % 10)
        return found

    assert shares("dev") == {8} and shares("test") == {9} and shares("train") <= set(range(8))


def where(frame, colour):
    """Centre (x, y) of the pixels of a colour, and how many there are."""
    ys, xs = np.nonzero(np.abs(frame.astype(int) - COLOURS[colour]).max(2) <= 3)
    return (xs.mean() if len(xs) else None, ys.mean() if len(ys) else None, len(xs))


def test_frames_show_what_happens_when_it_does():
    checked = dict.fromkeys(("move", "meet", "appear", "vanish"), 0)
    for one, drawn in DRAWN:
        colours = [thing.colour for thing in one.things]
        frames, times = drawn.frames, drawn.times
        for event in one.events:
            colour = next(thing.colour for thing in one.things if thing.kind == event.kind)
            if colours.count(colour) > 1:
                continue
            before = where(frames[np.flatnonzero(times <= event.start)[-1]], colour)
            after = where(frames[np.flatnonzero(times >= event.end)[0]], colour)
            checked[event.action] += 1
            if event.action == "appear":
                assert before[2] == 0 < after[2]
            elif event.action == "vanish":
                assert before[2] > 0 == after[2]
            elif event.action == "move":
                down, right = STEPS[event.direction]
                moved = (after[0] - before[0], after[1] - before[1])
                assert moved[0] * right + moved[1] * down > 10
                assert (
                    abs(moved[0] * down) + abs(moved[1] * right) < 6
                )  # who met somebody sets off from beside its line
    assert all(count > 5 for count in checked.values())


def test_who_meets_another_touches_it_and_who_only_moves_does_not():
    for one, drawn in DRAWN:
        frames, times = drawn.frames, drawn.times
        colours = {thing.kind: thing.colour for thing in one.things}
        for event in one.events:
            if event.action != "meet" or len(set(colours.values())) < len(colours):
                continue
            frame = frames[np.flatnonzero(times >= event.end)[0]]
            mine, other = where(frame, colours[event.kind]), where(frame, colours[event.other])
            assert max(abs(mine[0] - other[0]), abs(mine[1] - other[1])) < 16


def test_what_is_believed_to_follow_really_follows_as_often_as_the_dial_says():
    def share(together):
        dials = ClipSettings(together=together)
        asked = followed = 0
        for index in range(200):
            events = story(index, settings=dials).events
            for event, after in itertools.pairwise(events):
                beliefs = following(event, dials.follows)
                asked += bool(beliefs)
                followed += any((after.action, after.kind) == (b.then, who(b, event)) for b in beliefs)
        return followed / asked

    assert share(0) < 0.3 < 0.45 < share(0.6) < share(1.0)


def test_beliefs_of_the_truth_did_not_come_true_and_could_have():
    for one in STORIES:
        known = clip_truth(one, CLEAN)
        for belief in known["beliefs"]:
            later = one.events[belief["after"] + 1 :]
            assert not any((e.action, e.kind) == (belief["action"], belief["kind"]) for e in later)
            assert (belief["kind"] in one.kinds) == (belief["action"] != "appear")


def test_address_leads_back_to_the_story_and_its_dials():
    dials = ClipSettings.of(frames=24, world={"cells": 5, "backgrounds": ["sky"], "small": 0.2})
    uri = address(5, "test", 2, dials)
    assert located(uri) == (story(5, "test", 2, dials), dials)
    assert address(5, "test", 2, ClipSettings()) == "worldclip:test/2/5"


@pytest.mark.parametrize(
    "uri", ["worldclip:x", "worldclip:dev/a/1", "worldclip:exam/0/1", "worldclip:dev/0/1?%7B%22fp%22:1%7D"]
)
def test_a_wrong_address_is_the_users_mistake_and_a_media_error(uri):
    with pytest.raises(UserError):
        located(uri)
    with pytest.raises(MediaError, match="no clip of the drawn world"):
        draw_clip(uri)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"frame": 8}, "did you mean 'frames'"),
        ({"frames": 2}, r"worldclip.frames.*greater than or equal to 4"),
        ({"frames": 6}, "too few to show 4 events"),
        ({"fewest_events": 5}, "fewest_events=5 is more"),
        ({"world": {"occluded": 0.1}}, "must be 0 in clips"),
        ({"world": {"noise": -1}}, r"worldclip.world.noise"),
        ({"world": {"cells": 2, "most": 3}}, "nothing could move"),
        ({"most": 6}, "leave no room"),
        ({"follows": [{"first": "move", "then": "vanish", "rate": r} for r in (0.6, 0.7)]}, "1.3 in sum"),
        ({"follows": [{"first": "move", "then": "vanish", "who": "other", "rate": 0.5}]}, "needs first='meet'"),
        ({"follows": [{"first": "move", "then": "appear", "rate": 0.5}]}, "name its kind"),
        ({"follows": [{"first": "move", "then": "appear", "who": "cat", "rate": 0.5}]}, "unknown kind 'cat'"),
    ],
)  # fmt: skip
def test_wrong_dials_name_the_key(dials, message):
    with pytest.raises(UserError, match=message) as caught:
        ClipSettings.of(**dials)
    assert "\n" not in str(caught.value)


def test_the_source_gives_samples_that_open_through_the_media_room():
    video = pytest.importorskip("vlm_selfalign.media.video")
    built = resolve("source", "worldclip")(split="test", limit=3, seed=1)
    samples = list(built)
    assert samples == list(built) and len({sample.id for sample in samples}) == 3
    (media,) = samples[0].prompt.media
    assert media.kind == "video" and samples[0].prompt.question == "Describe the clip."
    whole = draw_clip(media.uri)
    few = video.load_video(media, frames=8)
    assert len(few) == 8 and (few.frames == whole.frames[few.indices]).all()
    assert {"objects", "events", "counts", "beliefs"} <= set(samples[0].truth)


def test_content_hash_knows_split_seed_and_dials():
    turned = ClipSettings(fps=8)
    hashes = [clip(0).content_hash, clip(0, "dev").content_hash, clip(0, seed=1).content_hash]
    assert len({*hashes, clip(0, dials=turned).content_hash, clip(1).content_hash}) == 5
