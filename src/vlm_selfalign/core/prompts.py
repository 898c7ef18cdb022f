"""What a model is asked: chat messages whose media parts are indices, and the sample behind them.

A message part is a text or, for media, its index in ``Prompt.media``; text and vision prompts are the
same thing with ``media == ()`` or not::

    prompt = Prompt.user("Describe the image.", photo)
    prompt.then("Is there a cat?")                  # the user goes on, or asks next
    prompt.answered("A cat sits.").then("Sure?")    # several turns
    prompt.opened("There is")                       # the answer must begin so
"""

from __future__ import annotations

import random
from typing import Any, Literal

from pydantic import model_validator

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.records import Record
from vlm_selfalign.core.seeds import rng, seed_of

Role = Literal["system", "user", "assistant"]


class Message(Record):
    """One turn: who speaks, and parts that are texts or indices of media."""

    role: Role
    parts: tuple[int | str, ...]

    @property
    def text(self) -> str:
        """The text parts, joined; media leave no trace."""
        return "".join(part for part in self.parts if isinstance(part, str))


class Prompt(Record):
    """Messages, the media they show, and how the answer must open (``opening``, the assistant's own words)."""

    messages: tuple[Message, ...]
    media: tuple[Media, ...] = ()
    opening: str = ""

    @model_validator(mode="after")
    def _media_parts_index_media(self) -> Prompt:
        shown = [part for message in self.messages for part in message.parts if isinstance(part, int)]
        if shown != list(range(len(self.media))):
            raise ValueError(f"the prompt shows media {shown} but carries {len(self.media)}; each once, in order")
        return self

    @classmethod
    def user(cls, text: str = "", *media: Media, system: str = "") -> Prompt:
        """One user turn: all media first, then the text."""
        before = (Message(role="system", parts=(system,)),) if system else ()
        parts = (*range(len(media)), *([text] if text else ()))
        return cls(messages=(*before, Message(role="user", parts=parts)), media=media)

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return next((m.text for m in reversed(self.messages) if m.role == "user"), "")

    def then(self, text: str) -> Prompt:
        """The user says ``text`` next: appended to an open user turn, a new turn after an answer."""
        last = self.messages[-1]
        if last.role != "user":
            return self._with(*self.messages, Message(role="user", parts=(text,)))
        gap = "\n" if last.text else ""
        return self._with(*self.messages[:-1], Message(role="user", parts=(*last.parts, gap + text)))

    def asking(self, text: str) -> Prompt:
        """The same media with ``text`` as the only text of the last user turn."""
        last = self.messages[-1]
        if last.role != "user":
            raise ValueError("the last turn is not the user's: use then()")
        shown = tuple(part for part in last.parts if isinstance(part, int))
        return self._with(*self.messages[:-1], Message(role="user", parts=(*shown, text)))

    def answered(self, text: str) -> Prompt:
        """The assistant's answer is a finished turn of the conversation; what opened it is part of it."""
        turn = Message(role="assistant", parts=(text,))
        return self.model_copy(update={"messages": (*self.messages, turn), "opening": ""})

    def opened(self, text: str) -> Prompt:
        """The answer must go on from ``text`` (added to what already opens it)."""
        return self.model_copy(update={"opening": self.opening + text})

    def told(self, system: str) -> Prompt:
        """The same prompt under a system message, which replaces any before it."""
        rest = tuple(m for m in self.messages if m.role != "system")
        return self._with(Message(role="system", parts=(system,)), *rest)

    def viewed(self, name: str, amount: float = 1.0, seed: int = 0) -> Prompt:
        """Every picture or clip through one more view."""
        return self.model_copy(update={"media": tuple(m.viewed(name, amount, seed) for m in self.media)})

    def blind(self) -> Prompt:
        """The same words with no media at all."""
        words = (tuple(p for p in m.parts if isinstance(p, str)) for m in self.messages)
        messages = tuple(Message(role=m.role, parts=parts) for m, parts in zip(self.messages, words, strict=True))
        return self.model_copy(update={"messages": messages, "media": ()})

    def chat(self) -> list[dict[str, Any]]:
        """Transformers' chat format: typed parts, media as ``{"type": "image"}`` in order of ``media``."""
        return [{"role": m.role, "content": [self._part(part) for part in m.parts]} for m in self.messages]

    def _part(self, part: int | str) -> dict[str, str]:
        return {"type": "text", "text": part} if isinstance(part, str) else {"type": self.media[part].kind}

    def _with(self, *messages: Message) -> Prompt:
        return Prompt(messages=messages, media=self.media, opening=self.opening)


class Sample(Record):
    """One thing to learn from: an id that is a content hash, a prompt, and the truth where it is known.

    ``truth`` is JSON (an answer, a scene, object names); no label-free method reads it.
    ``seed`` is hash(run seed, round), set by the driver.
    """

    id: str
    prompt: Prompt
    truth: Any = None
    seed: int = 0

    @classmethod
    def of(cls, prompt: Prompt, truth: Any = None) -> Sample:
        """A sample named by its prompt's content."""
        return cls(id=prompt.digest, prompt=prompt, truth=truth)

    def seeded(self, run_seed: int, round_number: int) -> Sample:
        """The same sample with the chance of this run and round."""
        return self.model_copy(update={"seed": seed_of(run_seed, round_number)})

    def rng(self, label: str) -> random.Random:
        """A method's own chance: depends on run seed, round, sample and label only."""
        return rng(self.seed, self.id, label)
