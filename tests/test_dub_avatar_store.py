"""Avatars fitted once per person: found again by content, waited for, taken over when a fit is interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tiny_avatar import save_tiny_avatar

import talkinghead.fit
from talkinghead.config import FitConfig
from talkinghead.dubbing.avatar_store import AvatarStore
from talkinghead.progress import Progress
from tools.errors import OutputError

CONFIG = FitConfig(preset="fast")


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Puts a moment's work in place of the fit; names of the avatars and presets that it was asked for."""
    asked: list[tuple[str, str]] = []
    made = tmp_path / "made"
    made.mkdir()
    save_tiny_avatar(made)

    def fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
        asked.append((output.name, config.preset))
        yield Progress("fitting", 1, 2)
        shutil.copytree(made / "tiny.avatar", output, dirs_exist_ok=True)
        yield Progress("fitting", 2, 2)

    monkeypatch.setattr(talkinghead.fit, "fit", fit)
    return asked


def finished(job: Generator[Progress, None, Path]) -> Path:
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def test_a_person_is_fitted_once(tmp_path: Path, fits: list[tuple[str, str]]) -> None:
    store = AvatarStore(tmp_path / "new" / "avatars")
    video, copy, other = tmp_path / "Zoë's clip.mp4", tmp_path / "copy.mp4", tmp_path / "other.mp4"
    for path, content in ((video, b"one"), (copy, b"one"), (other, b"other")):
        path.write_bytes(content)
    first = finished(store.avatar_for(video, CONFIG))
    assert first.parent == store.folder and first.name.startswith("Zoë_s_clip-")
    assert finished(store.avatar_for(video, FitConfig(preset="fast", device="cpu", restart=True))) == first
    assert finished(AvatarStore(store.folder).avatar_for(copy, CONFIG)) == first, "the same content"
    assert len(fits) == 1
    different = [(other, CONFIG), (video, FitConfig()), (video, FitConfig(preset="fast", face=2))]
    places = [finished(store.avatar_for(*one)) for one in different]
    assert len({first, *places}) == len(fits) == 4
    video.write_bytes(b"changed")
    assert finished(store.avatar_for(video, CONFIG)) not in {first, *places}


def test_a_damaged_avatar_is_fitted_anew(tmp_path: Path, fits: list[tuple[str, str]]) -> None:
    store, video = AvatarStore(tmp_path / "avatars"), tmp_path / "a.mp4"
    video.write_bytes(b"one")
    avatar = finished(store.avatar_for(video, CONFIG))
    (avatar / "tracks.safetensors").write_bytes(b"cut off")
    assert finished(store.avatar_for(video, CONFIG)) == avatar and len(fits) == 2


def test_the_second_waits_for_the_first_and_takes_over(tmp_path: Path, fits: list[tuple[str, str]]) -> None:
    store, video = AvatarStore(tmp_path / "avatars"), tmp_path / "a.mp4"
    video.write_bytes(b"one")
    first, second, third = (store.avatar_for(video, CONFIG) for _ in range(3))
    assert next(first).stage == "fitting"
    assert next(second).stage == next(third).stage == next(second).stage == "waiting for the fit of a.mp4"
    first.close()  # as when it is stopped
    assert next(second).stage == "fitting" and next(third).stage == "waiting for the fit of a.mp4"
    avatar = finished(second)
    assert finished(third) == avatar and len(fits) == 2
    assert {name for name, _ in fits} == {avatar.name}, "under one name, so that an interrupted fit goes on"


@pytest.mark.parametrize("stem", ["x" * 200, "ü" * 120, "a'b\"c\nd", ".."])
def test_names_of_avatars(stem: str, tmp_path: Path) -> None:
    video = tmp_path / f"{stem}.mp4"
    video.write_bytes(b"one")
    place = AvatarStore(tmp_path).place(video, CONFIG)
    assert place.parent == tmp_path and len(place.name.encode()) < 200 and place.name.isprintable()


def test_a_folder_that_cannot_be_made(tmp_path: Path, fits: list[tuple[str, str]]) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"one")
    with pytest.raises(OutputError, match="choose another with --avatars"):
        finished(AvatarStore(video / "avatars").avatar_for(video, CONFIG))
    assert not fits
