"""What a text says is in the picture, read out of free English: objects named or denied, colours, numbers.

::

    world = Vocabulary.load("world")
    read_claims("There are two red cars but no boat. They are near a house.", world)
    # car (red, 2), boat (negated), house

Reading follows rules over tagged words; questions, likenesses ("shaped like a star") and conditions make no
claim. A pronoun adds a colour to what it stands for and is no new mention. "the boat" after "a boat" is one:
CHAIR counts repeated mentions (Rohrbach et al. 2018).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vlm_selfalign.core.records import Record
from vlm_selfalign.scoring.colours import add_colours
from vlm_selfalign.scoring.mentions import Mention, find_mentions
from vlm_selfalign.scoring.negation import denied, silent
from vlm_selfalign.scoring.sentences import split_sentences
from vlm_selfalign.scoring.vocabulary import Vocabulary
from vlm_selfalign.scoring.words import Word, words_of, wordset

HEDGES = wordset(
    "might may maybe perhaps possibly probably could appears seems seem apparently likely presumably unclear think"
)


class Claim(Record):
    """One mention of a kind: the characters ``start``..``end`` of its name, the index of its sentence, what is said.

    ``negated``: the text says it is not there. ``colour`` and ``count`` are None where the text gives none ("a"
    counts 1). ``hedged``: only "perhaps" or "seems to be" there; it counts as a claim all the same.
    """

    kind: str
    start: int
    end: int
    sentence: int
    negated: bool = False
    colour: str | None = None
    count: int | None = None
    hedged: bool = False


def read_claims(text: str, vocabulary: Vocabulary) -> tuple[Claim, ...]:
    """All claims of a text in the order they stand there."""
    read: list[tuple[Mention, list[Word], int, bool]] = []
    earlier: list[Mention] = []
    for sentence, span in enumerate(split_sentences(text)):
        words = words_of(text, span, vocabulary.verbs)
        mentions = find_mentions(words, vocabulary)
        gone, nothing = denied(words, mentions), silent(words, mentions)
        asserted = [m for i, m in enumerate(mentions) if i not in gone | nothing]
        add_colours(words, asserted, earlier, vocabulary)
        earlier = asserted or earlier
        read += [(m, words, sentence, i in gone) for i, m in enumerate(mentions) if i not in nothing]
    return tuple(_claim(*entry) for entry in read)


def claimed(claims: Iterable[Claim]) -> Iterator[Claim]:
    """The claims that say something is there."""
    return (claim for claim in claims if not claim.negated)


def _claim(mention: Mention, words: list[Word], sentence: int, negated: bool) -> Claim:
    clause = words[mention.head].clause
    hedged = any(word.text in HEDGES for word in words[: mention.first] if word.clause == clause)
    return Claim(
        kind=mention.kind,
        start=words[mention.first].start,
        end=words[mention.head].end,
        sentence=sentence,
        negated=negated,
        colour=mention.colour,
        count=mention.count,
        hedged=hedged,
    )
