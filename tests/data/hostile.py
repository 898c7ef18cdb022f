"""Lines of manifests as strangers write them, each with the verdict it deserves.

They are about the files of one folder: ``GOOD`` are pictures; ``words.png`` is text, ``link.png`` leaves the folder,
``secret.png`` lies beside the folder, ``sub`` is a folder in it.
"""

from __future__ import annotations

import json
import random
from typing import Any

from vlm_selfalign.data.jsonl import MAX_LINE

GOOD = ("0.png", "1.png", "2.png", "sub/é x.png")

KEY: list[tuple[bytes, str]] = [
    (b'{"text": "fine", "id": "good"}', ""),
    (b"{", "not JSON"),
    (b"[1, 2]", "not an object"),
    (b'"words"', "not an object"),
    (b"{}", "has no image"),
    (b'{"truth": 1}', "has no image"),
    (b'{"images": []}', "has no image"),
    (b'{"start": 1}', "has no image"),
    (b'{"text": ""}', "asks nothing"),
    (b'{"text": 3}', "not text (3)"),
    (b'{"text": "a", "prompt": "b"}', "both prompt and text"),
    (b'{"text": "a", "text": "b"}', "key 'text' is given twice"),
    (b'{"text": "a", "truth": {"x": 1, "x": 2}}', "key 'x' is given twice"),
    (b'{"text": "a", "truth": NaN}', "NaN is not JSON"),
    (b'{"text": "a", "truth": -Infinity}', "-Infinity is not JSON"),
    (b'{"text": "a", "truth": 1e999}', "too large a number"),
    (b'{"text": "a", "truth": ' + b"9" * 5000 + b"}", "not JSON"),
    (b'{"text": "half \\ud83d"}', "not JSON"),
    (b'{"text": "whole \\ud83d\\ude00"}', ""),
    (b'{"text": "caf\xe9"}', "not JSON"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"text": "deep", "truth": ' + b"[" * 101 + b"]" * 101 + b"}", "nested too deeply"),
    (b'{"text": "not too deep", "truth": ' + b"[" * 100 + b"]" * 100 + b"}", ""),
    (b'{"text": "' + b"a" * MAX_LINE + b'"}', "a line of over"),
    (b'{"text": "' + b"a" * 200_000 + b'"}', "characters, at most"),
    (b'{"image": "0.png", "images": ["1.png"]}', "both image and images"),
    (b'{"image": ["0.png"]}', "its image is not a path"),
    (b'{"image": 3}', "not a path"),
    (b'{"image": ""}', "not a path"),
    (b'{"images": "0.png"}', "not a list"),
    (b'{"images": [null]}', "not a path"),
    (b'{"images": [' + b",".join([b'"0.png"'] * 65) + b"]}", "65, at most 64"),
    (b'{"image": "nothing.png"}', "no such file"),
    (b'{"image": "words.png"}', "not a picture but text"),
    (b'{"image": "sub"}', "a folder, not a file"),
    (b'{"image": "a\\u0000.png"}', "NUL"),
    (b'{"image": "two\\nlines.png"}', "no such file"),
    (b'{"image": "/etc/passwd"}', "not under the manifest's folder"),
    (b'{"image": "../secret.png"}', "not under the manifest's folder"),
    (b'{"image": "sub/../../secret.png"}', "not under the manifest's folder"),
    (b'{"image": "sub\\\\..\\\\..\\\\secret.png"}', "not under the manifest's folder"),
    (b'{"image": "link.png"}', "a link out of"),
    (b'{"image": "file:///etc/passwd"}', "an address, not a path"),
    (b'{"image": "http://127.0.0.1/x.png"}', "an address, not a path"),
    (b'{"image": "HTTPS://example.org/x.png"}', "an address, not a path"),
    (b'{"image": "data:image/png;base64,AAAA"}', "an address, not a path"),
    (b'{"image": "concat:0.png|1.png"}', "an address, not a path"),
    (b'{"video": "0.png"}', "not a clip but PNG"),
    (b'{"video": "words.png"}', "not a clip but text"),
    (b'{"video": "../secret.mp4"}', "not under the manifest's folder"),
    (b'{"video": "https://example.org/x.mp4"}', "an address, not a path"),
    (b'{"image": "0.png", "start": 1}', "start and end need one video"),
    (b'{"video": "0.png", "start": -1}', "its start is not a number of seconds"),
    (b'{"video": "0.png", "end": "1"}', "its end is not a number of seconds"),
    (b'{"video": "0.png", "start": true}', "its start is not a number of seconds"),
    (b'{"video": "0.png", "start": 2, "end": 2}', "its end is not after its start"),
    (b'{"videos": ["0.png", "0.png"], "end": 2}', "start and end need one video"),
    (b'{"text": "a", "id": true}', "its id is not text or a whole number"),
    (b'{"text": "a", "id": {"a": 1}}', "not text or a whole number"),
    (b'{"text": "a", "id": "two\\nlines"}', "not printable"),
    (b'{"text": "a", "id": ""}', "is empty"),
    (b'{"text": "a", "id": "good"}', "'good' by m.jsonl:1"),
    (b'{"text": "a", "id": 7}', ""),
    (b'{"text": "a", "id": "7"}', "'7' by m.jsonl:63"),
    (b'{"image": "0.png", "text": "last"}', ""),
]


def lines() -> list[bytes]:
    """All of them, in order."""
    return [line for line, _ in KEY]


def key() -> dict[int, str]:
    """Words in the refusal of each bad line, by its number from 1."""
    return {number: words for number, (_, words) in enumerate(KEY, 1) if words}


def random_lines(count: int, seed: int) -> tuple[list[bytes], set[int]]:
    """Lines drawn from sound parts, about half with one fault put in, and the numbers of those."""
    rng = random.Random(seed)
    found, bad = [], set[int]()
    for number in range(1, count + 1):
        row = _sound(rng)
        if rng.random() < 0.5:
            bad.add(number)
            found.append(rng.choice(FAULTS)(row, rng))
        else:
            found.append(_written(row))
    return found, bad


def _sound(rng: random.Random) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if rng.random() < 0.4:
        row["image"] = rng.choice(GOOD)
    elif rng.random() < 0.5:
        row["images"] = [rng.choice(GOOD) for _ in range(rng.randint(1, 4))]
    if not row or rng.random() < 0.5:
        row[rng.choice(["prompt", "text"])] = _words(rng)
    if rng.random() < 0.5:
        row["truth"] = _json(rng, 3)
    return row


def _json(rng: random.Random, depth: int) -> Any:
    if depth and rng.random() < 0.5:
        parts = [_json(rng, depth - 1) for _ in range(rng.randint(0, 3))]
        return parts if rng.random() < 0.5 else {_words(rng) + str(place): part for place, part in enumerate(parts)}
    return rng.choice([None, True, rng.random(), rng.randint(-(10**18), 10**18), _words(rng)])


def _words(rng: random.Random) -> str:
    letters = 'ab é\t\n"\\\u2028\ud7ff\U0001f600{}[]:,'
    return "x" + "".join(rng.choice(letters) for _ in range(rng.randint(0, 12)))


def _written(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=len(row) % 2 == 0).encode()


def _cut(row: dict[str, Any], rng: random.Random) -> bytes:
    line = _written(row)
    return line[: rng.randint(1, len(line) - 1)]


def _not_utf8(row: dict[str, Any], rng: random.Random) -> bytes:
    line = _written(row)
    place = rng.randint(1, len(line) - 1)
    return line[:place] + b"\xff" + line[place:]


def _twice(row: dict[str, Any], rng: random.Random) -> bytes:
    name = rng.choice(list(row))
    return _written(row)[:-1] + b", " + _written({name: row[name]})[1:]


def _with(**wrong: Any) -> Any:
    def fault(row: dict[str, Any], rng: random.Random) -> bytes:
        clean = {column: value for column, value in row.items() if column not in ("image", "images", "text", "prompt")}
        return _written(clean | {"text": "x"} | wrong)

    return fault


FAULTS = [
    _cut,
    _not_utf8,
    _twice,
    _with(image="../secret.png"),
    _with(image="/etc/passwd"),
    _with(images=["0.png", "link.png"]),
    _with(image="http://[::ffff:127.0.0.1]/"),
    _with(image="words.png"),
    _with(image="nothing.png"),
    _with(image=["0.png"]),
    _with(text=" \n"),
    _with(text=["x"]),
    _with(prompt="x"),
    _with(id=1.5),
    _with(id="\x1b[2J"),
    _with(truth=float("nan")),
    _with(video="words.png"),
    _with(start=3),
]
