"""Answers requests with a local transformers model, in batches that leave no trace in the answers.

::

    service = HFService(load(ModelSettings(path="embedded")), batch_size=32)
    (reply,) = service.serve([Generate(prompt=prompt)], seeds=[0])

What a row gets does not depend on its batch: chance is seeded per token (``noise``), padding is masked, and a
micro-batch that does not fit is halved. In fp32 the tokens are the same and scores differ by rounding (1e-5).
Shapes: B rows, T tokens, V vocabulary, N positions.
"""

from __future__ import annotations

import gc
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import (
    Choose,
    Chosen,
    Failed,
    Generate,
    Reply,
    Request,
    Score,
    Scored,
    Text,
)
from vlm_selfalign.core.seeds import seed_of
from vlm_selfalign.media.errors import MediaError
from vlm_selfalign.models import families, noise
from vlm_selfalign.models.encode import Batch, Encoder, EncodingError, eos_ids
from vlm_selfalign.models.endings import Endings, first_stop
from vlm_selfalign.models.forms import FormTree, surface_forms
from vlm_selfalign.models.load import Loaded
from vlm_selfalign.models.vision import features_of, takes_features

TOP_K = 20
"""Tokens per position in ``Scored.top_k``."""
_CALM = 32
"""Micro-batches that must fit before a bigger one is tried again: one huge request must not slow all that follow."""


@dataclass
class _Job:
    request: Any
    seed: int


class HFService:
    """``core.requests.Service`` over one loaded model; answers ``Generate``, ``Choose`` and ``Score``."""

    def __init__(self, loaded: Loaded, batch_size: int = 32) -> None:
        self.loaded = loaded
        self._batch_size = batch_size
        self.encoder = Encoder.of(loaded)
        self._model = families.unwrapped(loaded.model)
        self._eos = sorted({*eos_ids(loaded), self.encoder.end_id})
        text_config = self._model.config.get_text_config()
        self._context: float = getattr(text_config, "max_position_embeddings", None) or math.inf
        self._takes_features = takes_features(loaded.model)
        self._keeps_logits = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        self._unwritable = self._unwritable_ids()
        self._limits: dict[type, int] = {}
        """Rows per micro-batch that were found to fit, by kind; kinds that never ran out are absent."""
        self._fitted: dict[type, int] = {}
        """Micro-batches since memory ran out last, by kind."""
        self._handlers: dict[type, Callable[[list[_Job]], list[Reply]]] = {
            Generate: self._generate,
            Choose: self._choose,
            Score: self._score,
        }

    @property
    def identity(self) -> str:
        """The loaded model's."""
        return self.loaded.identity

    @property
    def batch_size(self) -> int:
        """How many requests it likes at once."""
        return self._batch_size

    def serve(self, requests: Sequence[Request], seeds: Sequence[int]) -> list[Reply]:
        """Answer in order. A request that cannot be answered gets ``Failed`` and disturbs no other.

        Raises ``UserError`` for media shown to a text-only model.
        """
        groups: dict[tuple[type, frozenset[str]], list[int]] = {}
        replies: list[Reply] = [Failed(reason=f"a language model does not answer {type(r).__name__}") for r in requests]
        for index, request in enumerate(requests):
            if isinstance(request, (Generate, Choose, Score)):
                # words padded to the length of a clip would cost as much: unlike rows never share a batch
                kinds = frozenset(media.kind for media in request.prompt.media)
                groups.setdefault((type(request), kinds), []).append(index)
        with _evaluating(self._model), torch.inference_mode():
            for (kind, _), members in groups.items():
                jobs = [_Job(requests[i], seeds[i]) for i in members]
                for index, reply in zip(members, self._in_batches(kind, jobs), strict=True):
                    replies[index] = reply
        return replies

    def _in_batches(self, kind: type, jobs: list[_Job]) -> list[Reply]:
        replies: list[Reply] = []
        while len(replies) < len(jobs):
            rows = min(self._batch_size, self._limits.get(kind, self._batch_size))
            self._fitted[kind] = self._fitted.get(kind, 0) + 1
            if rows < self._batch_size and self._fitted[kind] > _CALM:
                rows, self._fitted[kind] = rows * 2, 0
                self._limits[kind] = rows
            replies += self._attempt(kind, jobs[len(replies) : len(replies) + rows])
        return replies

    def _attempt(self, kind: type, jobs: list[_Job]) -> list[Reply]:
        """Answer one micro-batch; if it does not fit or holds a bad row, its halves."""
        alone = len(jobs) == 1
        half = (len(jobs) + 1) // 2
        memory = False
        try:
            return self._handlers[kind](jobs)
        except (MediaError, EncodingError) as error:
            reason = error.reason if isinstance(error, MediaError) else str(error)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            memory, reason = True, "out of memory with one request at a time; set model.media.max_visual_tokens"
        if memory:
            # only out here has the exception let go of the failed attempt's tensors
            empty_caches()
            self._limits[kind], self._fitted[kind] = half, 0
        if alone:
            return [Failed(reason=reason)]
        return self._attempt(kind, jobs[:half]) + self._attempt(kind, jobs[half:])

    def _encoded(self, jobs: list[_Job], known: dict[Any, Any], **options: Any) -> Batch:
        prompts = [job.request.prompt for job in jobs]
        batch = self.encoder.batch(prompts, known=known, apart=self._seen_apart(prompts), **options)
        longest = max(batch.lengths)
        if longest > self._context:
            raise EncodingError(f"the prompt is too long: over the model's {self._context} tokens")
        batch = batch.to(self.loaded.device, self._model.dtype)
        if batch.looks:
            features = features_of(self._model, batch.looks, self.loaded.device, seen=known)
            batch.inputs["mm_encoder_outputs"] = features  # type: ignore[assignment]
        return batch

    def _seen_apart(self, prompts: Sequence[Prompt]) -> bool:
        """Clips, and pictures that several rows show, go through the vision tower once each."""
        shown = [prompt.media for prompt in prompts if prompt.media]
        clips = any(media.kind == "video" for one in shown for media in one)
        return self._takes_features and bool(shown) and (clips or 2 * len(set(shown)) <= len(shown))

    def _generate(self, jobs: list[_Job]) -> list[Reply]:
        requests: list[Generate] = [job.request for job in jobs]
        batch = self._encoded(jobs, {}, continued=[r.prefix_ids for r in requests])
        rooms = [min(r.sampling.max_tokens, self._context - n) for r, n in zip(requests, batch.lengths, strict=True)]
        if min(rooms) < 1:
            raise EncodingError(f"the prompt fills all of the model's {self._context} tokens")
        prompt_BT, width = batch.inputs["input_ids"], batch.inputs["input_ids"].shape[1]
        sampler = noise.SeededSampler(
            [r.sampling for r in requests],
            [seed_of(job.seed, job.request.draw) for job in jobs],
            prompt_BT,
            batch.inputs["attention_mask"],
            self._eos,
            banned_ids=self._unwritable,
            written=[len(r.prefix_ids) for r in requests],
            observe=any(r.want for r in requests),
        )
        stops = [r.sampling.stop for r in requests]
        endings = Endings(self.encoder.tokenizer, stops, [int(n) for n in rooms], width, self._eos)
        with self._own_settings():
            ids_BT = self._model.generate(
                **batch.inputs,
                max_new_tokens=int(max(rooms)),
                logits_processor=LogitsProcessorList([sampler]),
                stopping_criteria=StoppingCriteriaList([endings]),
            )
        observed = sampler.observed()
        replies: list[Reply] = []
        for row, (request, broken) in enumerate(zip(requests, sampler.broken_B.tolist(), strict=True)):
            new = ids_BT[row, width : width + endings.length(row)].tolist()
            before = int(prompt_BT[row, -1 - len(request.prefix_ids)])
            told = {want: values[row] for want, values in observed.items()}
            text = self._text(request, before, new, told, row in endings.stopped)
            replies.append(Failed(reason="the model computed NaN") if broken else text)
        return replies

    def _text(
        self, request: Generate, before: int, new: list[int], observed: dict[str, list[float]], stopped: bool
    ) -> Reply:
        unknown = sorted(set(request.want) - set(noise.OBSERVED))
        if unknown:
            return Failed(reason=f"Generate cannot give {', '.join(unknown)}; Score can")
        end = next((i for i, token in enumerate(new) if token in self._eos), None)
        ids = (*request.prefix_ids, *new[:end])
        text = self._read(request, before, ids)
        if end is not None:
            new, finish = new[: end + 1], "end"
        elif stopped:
            text = text[: first_stop(text, request.sampling.stop, len(self._read(request, before, request.prefix_ids)))]
            finish = "stop"
        else:
            finish = "length"
        told = {want: tuple(observed[want][: len(new)]) for want in request.want}
        return Text(text=text, ids=ids, finish=finish, **told)

    def _read(self, request: Generate, before: int, ids: Sequence[int]) -> str:
        text = self.encoder.decode_after(before, ids)
        return request.prompt.opening + text if request.prompt.opening else text.removeprefix(self.encoder.gap)

    def _choose(self, jobs: list[_Job]) -> list[Reply]:
        known: dict[Any, Any] = {}
        trees = [FormTree([surface_forms(self.encoder, j.request.prompt, c) for c in j.request.choices]) for j in jobs]
        while wanted := [(job, tree, ids) for job, tree in zip(jobs, trees, strict=True) for ids in tree.open()]:
            for start in range(0, len(wanted), len(jobs)):
                part = wanted[start : start + len(jobs)]
                batch = self._encoded(
                    [job for job, *_ in part], known, continued=[ids for *_, ids in part], side="right"
                )
                ends = [range(length - 1, length) for length in batch.lengths]
                for (_, tree, ids), (logp_1V, _) in zip(part, self._distributions(batch, ends), strict=True):
                    tree.grow(ids, logp_1V[0].cpu())
        return [_chosen(job.request, tree) for job, tree in zip(jobs, trees, strict=True)]

    def _score(self, jobs: list[_Job]) -> list[Reply]:
        requests: list[Score] = [job.request for job in jobs]
        batch = self._encoded(jobs, {}, answers=[(r.answer, r.ends) for r in requests], side="right")
        spans = _before_last(batch, [answer.ids for answer in batch.answers])
        hidden = any("hidden" in r.want for r in requests)
        found = self._distributions(batch, spans, hidden)
        return [
            self._scored(request, answer.ids, logp_NV, hidden_ND)
            for request, answer, (logp_NV, hidden_ND) in zip(requests, batch.answers, found, strict=True)
        ]

    def _scored(
        self, request: Score, ids: tuple[int, ...], logp_NV: torch.Tensor, hidden_ND: torch.Tensor | None
    ) -> Reply:
        logp_N = logp_NV.gather(1, torch.tensor(ids, device=logp_NV.device, dtype=torch.int64)[:, None])[:, 0]
        if logp_N.isnan().any():
            return Failed(reason="the model computed NaN")
        told: dict[str, Any] = {}
        if "entropy" in request.want:
            told["entropy"] = tuple(noise.entropy(logp_NV).tolist())
        if "certainty" in request.want:
            told["certainty"] = tuple(noise.certainty(logp_NV).tolist())
        if "top_k" in request.want:
            best = logp_NV.topk(min(TOP_K, logp_NV.shape[-1]), dim=-1)
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            told["top_k"] = tuple(tuple(zip(tokens, values, strict=True)) for tokens, values in pairs)
        if "hidden" in request.want and hidden_ND is not None:
            told["hidden"] = tuple(map(tuple, hidden_ND.tolist()))
        return Scored(ids=ids, logprobs=tuple(logp_N.tolist()), **told)

    def _distributions(
        self, batch: Batch, spans: Sequence[range], hidden: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Per row: log-probs [N, V] after each position of its span, last hidden states [N, D] of the tokens there.

        Rows are right padded: then a position is the same in every batch, whatever a family does about positions.
        """
        width = batch.inputs["input_ids"].shape[1]
        keep = {"logits_to_keep": width - min(span.start for span in spans)} if self._keeps_logits else {}
        out = self._model(**batch.inputs, **keep, use_cache=False, output_hidden_states=hidden)
        skipped = width - out.logits.shape[1]
        for row, span in enumerate(spans):
            # one row at a time: a float32 copy of all logits would be the biggest tensor of the batch
            logits_NV = out.logits[row, span.start - skipped : span.stop - skipped]
            last_ND = out.hidden_states[-1][row, span.start + 1 : span.stop + 1].float() if hidden else None
            yield logits_NV.float().log_softmax(dim=-1), last_ND

    @contextmanager
    def _own_settings(self) -> Iterator[None]:
        """The model's own generation settings (a repetition penalty, say) must not add to what was asked."""
        known = self._model.generation_config
        self._model.generation_config = GenerationConfig(
            eos_token_id=self._eos, pad_token_id=self.encoder.tokenizer.pad_token_id, do_sample=False, use_cache=True
        )
        try:
            yield
        finally:
            self._model.generation_config = known

    def _unwritable_ids(self) -> list[int]:
        """Tokens an answer cannot hold: places for pictures, padding of the vocabulary, what the model forbids."""
        config = self._model.config
        places = [getattr(config, name, None) for name in ("image_token_id", "image_token_index", "video_token_id")]
        forbidden = [i for i in places if i is not None] + list(self._model.generation_config.suppress_tokens or ())
        padding = range(len(self.encoder.tokenizer), config.get_text_config().vocab_size)
        return sorted({*forbidden, *padding} - set(self._eos))


def _chosen(request: Choose, tree: FormTree) -> Reply:
    for choice, forms in zip(request.choices, tree.forms, strict=True):
        if not forms:
            return Failed(reason=f"the model has no tokens for the choice '{choice}'")
    logprobs = tuple(tree.logprobs())
    if any(math.isnan(value) for value in logprobs):
        return Failed(reason="the model computed NaN")
    return Chosen(choices=request.choices, logprobs=logprobs)


def _before_last(batch: Batch, tails: Sequence[Sequence[int]]) -> list[range]:
    """Positions whose distributions are those of each right-padded row's last tokens."""
    return [range(n - len(tail) - 1, n - 1) for n, tail in zip(batch.lengths, tails, strict=True)]


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in words or "can't allocate memory" in words


def empty_caches() -> None:
    """Give back what nothing refers to any more, on the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
