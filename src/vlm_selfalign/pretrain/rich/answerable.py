"""Which question a text asks, and whether an item answers it: what its own questions are held against.

A question that takes something for granted ("what colour is the boat?") is answerable only where that holds; a yes/no
question about what may not be there always is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from vlm_selfalign.data.world import questions
from vlm_selfalign.data.world.clips import questions as clips
from vlm_selfalign.data.world.language import RELATIONS, plural
from vlm_selfalign.data.world.settings import KINDS
from vlm_selfalign.pretrain.rich.items import Item

Truth = Mapping[str, Any]
Named = Mapping[str, str]

_KIND = "|".join(KINDS)
_KINDS = "|".join(map(plural, KINDS))
_WAYS = "to the left|to the right|up|down"
_HAPPENS = (
    rf"the (?:{_KIND}) moves (?:{_WAYS})|the (?:{_KIND}) meets the (?:{_KIND})|"
    rf"a (?:{_KIND}) appears|the (?:{_KIND}) vanishes"
)
_PARTS = {
    "kind": _KIND,
    "kinds": _KINDS,
    "other": _KIND,
    "place": "(?:top|bottom) (?:left|right)",
    "relation": "|".join(RELATIONS.values()),
}


def asked_task(text: str, item: Item) -> str | None:
    """The task of a question if the item answers it; None for a question it does not answer, and for no question."""
    text = text.replace(f"the {item.noun}", "the image")
    for task, (pattern, holds) in (CLIP if "events" in item.truth else PICTURE).items():
        found = re.fullmatch(pattern, text)
        if found:
            return task if holds(item.truth, found.groupdict()) else None
    return None


def _pattern(*templates: str, **parts: str) -> str:
    """A pattern of question templates, the parts in braces filled in."""
    known = _PARTS | parts
    filled = []
    for number, template in enumerate(templates):
        text = re.escape(template.replace("the clip", "the image")).replace(r"\{", "{").replace(r"\}", "}")
        # Names must be unique in a pattern: only the first template's parts have one.
        for name, choices in known.items():
            text = text.replace("{" + name + "}", f"(?P<{name}>{choices})" if number == 0 else f"(?:{choices})")
        filled.append(text)
    return "|".join(filled)


def _counts(known: Truth) -> Counter[str]:
    return Counter(item["kind"] for item in known["objects"])


def _always(known: Truth, named: Named) -> bool:
    return True


def _there(known: Truth, named: Named) -> bool:
    counts = _counts(known)
    return any(counts[kind] and word in (kind, plural(kind)) for kind in KINDS for word in named.values() if word)


def _alone(known: Truth, named: Named) -> bool:
    return _counts(known)[named["kind"]] == 1


def _related(known: Truth, named: Named) -> bool:
    """Both are there and lie so, or the other way round."""
    pair = {named["kind"], named["other"]}
    asked = {name for name, words in RELATIONS.items() if words == named.get("relation")}
    ways = asked | {questions.OPPOSITE[name] for name in asked if name in questions.OPPOSITE}
    told = [relation for relation in known["relations"] if {relation[0], relation[2]} == pair]
    return any(not ways or relation[1] in ways for relation in told)


def _sided(known: Truth, named: Named) -> bool:
    ways = {"left of", "right of"} if named["first"] in ("left", "right") else {"above", "below"}
    pair = {named["kind"], named["other"]}
    return any({one, other} == pair and name in ways for one, name, other in known["relations"])


def _moves_once(known: Truth, named: Named) -> bool:
    return sum(bool(event["direction"]) and event["kind"] == named["kind"] for event in known["events"]) == 1


def _both_move(known: Truth, named: Named) -> bool:
    movers = {event["kind"] for event in known["events"] if event["direction"]}
    return named["kind"] != named["other"] and {named["kind"], named["other"]} <= movers


def _both_happen(known: Truth, named: Named) -> bool:
    said = {clips.said(event) for event in known["events"]}
    moved = {clips.said({**event, "action": "move"}) for event in known["events"] if event["direction"]}
    return named["first"] != named["second"] and {named["first"], named["second"]} <= said | moved


def _known_doer(known: Truth, named: Named) -> bool:
    """Who is said to do it is in the clip, or it is asked whether one appears."""
    counts = _counts(known)
    doers = [kind for kind in KINDS if re.search(rf"\bthe {kind}\b", named["event"])]
    return all(counts[kind] for kind in doers)


Holds = Callable[[Truth, Named], bool]

PICTURE: dict[str, tuple[str, Holds]] = {
    "existence": (_pattern(*questions.EXISTENCE), _always),
    "colour": (_pattern(questions.COLOUR), _there),
    "colour_of_all": (_pattern(questions.COLOUR_OF_ALL), _there),
    "count": (_pattern(questions.COUNT), _always),
    "count_kind": (_pattern(questions.COUNT_KIND), _always),
    "position": (_pattern(questions.POSITION), _alone),
    "in_place": (_pattern(questions.IN_PLACE), _alone),
    "relation": (_pattern(questions.RELATION), _related),
    "side": (
        _pattern(questions.SIDE, first="left|right|above|below", second="|".join(RELATIONS.values())),
        _sided,
    ),
}

CLIP: dict[str, tuple[str, Holds]] = {
    "existence": (_pattern(clips.EXISTENCE_CLIP, *questions.EXISTENCE), _always),
    "colour": (_pattern(clips.COLOUR_CLIP), _there),
    "direction": (_pattern(clips.DIRECTION), _moves_once),
    "who_first": (
        _pattern(clips.WHO_FIRST.replace("{first}", "{kind}").replace("{second}", "{other}")),
        _both_move,
    ),
    "which_first": (_pattern(clips.WHICH_FIRST, first=_HAPPENS, second=_HAPPENS), _both_happen),
    "order": (_pattern(clips.BEFORE, first=_HAPPENS, second=_HAPPENS), _both_happen),
    "count": ("|".join(map(re.escape, (clips.COUNT_START, clips.COUNT_END, clips.COUNT_APPEAR))), _always),
    "event": (r"Does (?P<event>(?:a|the) \w+ (?:move|meet|appear|vanish)[\w ]*)\?", _known_doer),
}
"""Every task: how its questions read, and when an item answers one."""
