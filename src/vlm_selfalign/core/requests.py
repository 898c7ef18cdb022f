"""What can be asked of a model, and what comes back.

A request names a *role* (``to``), never a model. ``policy@-1`` is the role's previous version, ``policy@0``
its first. Requests are frozen and hashable; their digest, with the identity of who answers and the sample's
id, is the key under which a reply is remembered. Log-probs are natural logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.records import Record

Want = Literal["logprobs", "entropy", "certainty", "top_k", "hidden"]


class Sampling(Record):
    """How tokens are chosen; temperature 0 is greedy. ``stop`` strings end the answer and stay in it."""

    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    repetition_penalty: Annotated[float, Field(gt=0)] = 1.0
    min_tokens: Annotated[int, Field(ge=0)] = 0
    max_tokens: Annotated[int, Field(ge=1)] = 256
    stop: tuple[str, ...] = ()


class Request(Record):
    """Anything asked of a role."""

    to: str = "policy"

    @property
    def draws(self) -> bool:
        """Whether chance enters the reply, and so the sample's seed its key."""
        return False


class Generate(Request):
    """Write an answer. Independent answers to one prompt differ in ``draw``.

    ``prefix_ids`` continues an answer token by token (tree search); ``prompt.opening`` continues it by text.
    The reply holds the answer so far, both prefixes included.
    """

    prompt: Prompt
    draw: int = 0
    prefix_ids: tuple[int, ...] = ()
    sampling: Sampling = Sampling()
    want: tuple[Want, ...] = ()

    @property
    def draws(self) -> bool:
        """True unless greedy."""
        return self.sampling.temperature > 0


class Choose(Request):
    """Which of these short answers: the log-prob of each, merged over its surface forms."""

    prompt: Prompt
    choices: tuple[str, ...] = ("Yes", "No")


class Score(Request):
    """How likely is this answer: per token. ``ends``: the end-of-turn token is scored too."""

    prompt: Prompt
    answer: str
    ends: bool = True
    want: tuple[Want, ...] = ("logprobs",)


class Embed(Request):
    """Embed texts or media (role ``clip``)."""

    items: tuple[str | Media, ...]
    to: str = "clip"


class Ground(Request):
    """How well a text fits a picture or clip: cosine similarity in [-1, 1]."""

    text: str
    media: Media
    to: str = "clip"


class Call(Request):
    """Call a tool: a code sandbox, retrieval, any callable. ``arguments`` is JSON."""

    arguments: Any = None
    to: str = "tool"


class Reply(Record):
    """Base of all answers to requests."""


class Text(Reply):
    """The answer so far to ``Generate``: text, token ids (end token excluded), why it ended, what was wanted.

    Per-token lists cover the newly written tokens only, the end token included when ``finish == "end"``.
    ``certainty`` is KL(uniform || p) in nats (Kang et al. 2025, self-certainty).
    """

    text: str
    ids: tuple[int, ...] = ()
    finish: Literal["end", "length", "stop"] = "end"
    logprobs: tuple[float, ...] | None = None
    entropy: tuple[float, ...] | None = None
    certainty: tuple[float, ...] | None = None


class Chosen(Reply):
    """The answer to ``Choose``: one log-prob per choice (not normalised: their mass says how valid the format is)."""

    choices: tuple[str, ...]
    logprobs: tuple[float, ...]

    @property
    def probs(self) -> tuple[float, ...]:
        """Normalised over the choices."""
        import math

        top = max(self.logprobs)
        if top == -math.inf:
            return tuple(1 / len(self.logprobs) for _ in self.logprobs)
        odds = [math.exp(value - top) for value in self.logprobs]
        return tuple(value / sum(odds) for value in odds)

    @property
    def best(self) -> str:
        """The likeliest choice; the first of equals."""
        return self.choices[max(range(len(self.choices)), key=lambda i: (self.logprobs[i], -i))]

    def prob(self, choice: str) -> float:
        """The normalised probability of one choice."""
        return self.probs[self.choices.index(choice)]


class Scored(Reply):
    """The answer to ``Score``: per answer token, the end token last when it was scored."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    entropy: tuple[float, ...] | None = None
    certainty: tuple[float, ...] | None = None
    top_k: tuple[tuple[tuple[int, float], ...], ...] | None = None
    hidden: tuple[tuple[float, ...], ...] | None = None


class Value(Reply):
    """A JSON value: what ``Embed`` (list of vectors), ``Ground`` (a float) and ``Call`` give back."""

    value: Any


class Failed(Reply):
    """No answer, and why. It is recorded like any reply; ``ask`` raises it as ``RequestFailed``."""

    reason: str


REPLIES: dict[str, type[Reply]] = {kind.__name__: kind for kind in (Text, Chosen, Scored, Value, Failed)}


class Service(Protocol):
    """Answers requests. ``identity`` changes whenever an answer could: weights, processor, precision, version."""

    @property
    def identity(self) -> str:
        """Names whoever answers; part of every reply's key."""
        ...

    @property
    def batch_size(self) -> int:
        """How many requests of one kind it likes at once."""
        ...

    def serve(self, requests: Sequence[Request], seeds: Sequence[int]) -> Sequence[Reply]:
        """Answer each request, in order. ``seeds[i]`` is all the chance request ``i`` may use: equal seed, equal
        draw, whatever else is in the batch. A request that cannot be answered gets ``Failed``; ``TryAgain`` stops
        the run for now.
        """
        ...
