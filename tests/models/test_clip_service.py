"""CLIP from a folder: similarities of words with pictures and clips; a model that is missing is said once."""

import logging

import numpy as np
import pytest
from PIL import Image

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.requests import Embed, Failed, Generate, Ground
from vlm_selfalign.data.world.clips import clip
from vlm_selfalign.models.clip_service import ClipService


def photo(folder, seed):
    path = folder / f"{seed}.png"
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
    return Media(kind="image", uri=str(path), content_hash=str(seed))


def test_similarities_of_words_with_pictures_and_clips(clip_folder, tmp_path):
    service = ClipService(clip_folder, frames=4)
    shown = [photo(tmp_path, 1), clip(3)]
    grounds = [Ground(text=text, media=media) for media in shown for text in ("a red boat", "two cups")]
    values = [reply.value for reply in service.serve(grounds, [0] * 4)]
    assert all(-1 <= value <= 1 for value in values) and len({round(value, 6) for value in values}) == 4
    assert [reply.value for reply in ClipService(clip_folder, frames=4).serve(grounds[::-1], [0] * 4)] == values[::-1]
    (embedded,) = service.serve([Embed(items=("a red boat", shown[0], shown[1]))], [0])
    words, picture, moving = (np.array(vector) for vector in embedded.value)
    assert [np.linalg.norm(vector) for vector in (words, picture, moving)] == pytest.approx([1, 1, 1], abs=1e-5)
    assert words @ picture == pytest.approx(values[0], abs=1e-5)


def test_a_clip_is_the_mean_over_its_frames(clip_folder, tmp_path):
    service, media = ClipService(clip_folder, frames=4), clip(3)
    from vlm_selfalign.media.video import load_video

    stills = []
    for place, frame in enumerate(load_video(media, frames=4).frames):
        Image.fromarray(frame).save(tmp_path / f"{place}.png")
        stills.append(Media(kind="image", uri=str(tmp_path / f"{place}.png"), content_hash=f"frame {place}"))
    asked = [Ground(text="a red boat", media=shown) for shown in (media, *stills)]
    whole, *frames = [reply.value for reply in service.serve(asked, [0] * 5)]
    assert whole == pytest.approx(np.mean(frames), abs=1e-5)


def test_what_cannot_be_opened_or_answered_disturbs_no_other(clip_folder, tmp_path):
    service = ClipService(clip_folder)
    gone = Media(kind="image", uri=str(tmp_path / "gone.png"), content_hash="gone")
    asked = [
        Ground(text="x", media=gone),
        Generate(prompt=Prompt.user("x")),
        Ground(text="x", media=photo(tmp_path, 2)),
    ]
    first, second, third = service.serve(asked, [0] * 3)
    assert isinstance(first, Failed) and isinstance(second, Failed) and isinstance(third.value, float)


def test_a_missing_model_is_said_once_and_fails_every_request(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        service = ClipService(tmp_path / "nowhere")
        replies = service.serve([Ground(text="x", media=clip(0))] * 3, [0] * 3)
    assert all(isinstance(reply, Failed) and "open_clip_config.json" in reply.reason for reply in replies)
    assert caplog.text.count("no CLIP model") == 1


@pytest.mark.parametrize("broken", ["open_clip_config.json", "open_clip_pytorch_model.bin"])
def test_a_folder_that_holds_no_model_is_said_once_too(broken, clip_folder, tmp_path, caplog):
    for file in clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(b"{}" if file.name == broken else file.read_bytes())
    with caplog.at_level(logging.WARNING):
        service = ClipService(tmp_path)
        replies = [service.serve([Ground(text="x", media=clip(0))], [0])[0] for _ in range(2)]
    assert all(isinstance(reply, Failed) and str(tmp_path) in reply.reason for reply in replies)
    assert caplog.text.count("no CLIP model") == 1


def test_the_identity_is_of_the_weights(clip_folder, tmp_path):
    service, again = ClipService(clip_folder), ClipService(clip_folder)
    assert service.identity == again.identity != ClipService(clip_folder, frames=2).identity
    assert ClipService(tmp_path).identity != service.identity
