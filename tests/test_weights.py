"""Weights of pretrained networks: fetched once, whole or not at all, and not used when they have changed."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path

import pytest
import torch

from encoders.acoustic.weights import WeightsFile, fetch, load_checkpoint, load_state, verify, weights_folder
from encoders.errors import EncoderWeightsError

CONTENT = b"weights " * 400_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache of a user"))
    return weights_folder()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published.pt"
    path.write_bytes(CONTENT)
    return path


def file_at(path: Path, sha256: str | None = None) -> WeightsFile:
    return WeightsFile("network.pt", path.as_uri(), "MIT", 3, sha256)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_cache_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/somewhere")
    assert weights_folder() == Path("/somewhere/.cache/talkinghead/weights")


def test_a_download_is_reported_checked_and_kept(published: Path, cache: Path) -> None:
    file = file_at(published, sha256(CONTENT))
    events = list(fetch(file))
    assert events[-1].done == events[-1].total == len(CONTENT)
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert file.path.read_bytes() == CONTENT and everything_in(cache) == ["network.pt"]
    published.unlink()
    assert list(fetch(file)) == []  # there already
    assert verify(file) == sha256(CONTENT)


def test_another_file_than_the_publisher_states_is_refused(published: Path, cache: Path) -> None:
    with pytest.raises(EncoderWeightsError, match=f"SHA-256 {sha256(CONTENT)}, expected {'0' * 64}"):
        list(fetch(file_at(published, "0" * 64)))
    assert everything_in(cache) == []


def test_without_a_connection_the_line_says_where_to_put_the_file(tmp_path: Path, cache: Path) -> None:
    file = file_at(tmp_path / "nowhere.pt")
    with pytest.raises(EncoderWeightsError) as raised:
        list(fetch(file))
    assert file.url in str(raised.value) and str(file.path) in str(raised.value)
    assert everything_in(cache) == []


def test_a_connection_that_breaks_leaves_nothing(published: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        headers = {"Content-Length": str(len(CONTENT) + 1)}  # noqa: RUF012 - a stand-in

    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: Broken(CONTENT))
    with pytest.raises(EncoderWeightsError, match=f"ended after {len(CONTENT)} of {len(CONTENT) + 1} bytes"):
        list(fetch(file_at(published)))
    assert everything_in(cache) == []


def test_a_download_that_is_stopped_leaves_nothing(published: Path, cache: Path) -> None:
    job = fetch(file_at(published))
    next(job)
    assert everything_in(cache)
    job.close()
    assert everything_in(cache) == []


def test_an_archive_is_for_the_user_to_unpack(cache: Path) -> None:
    file = WeightsFile("net/graph.pb", "https://example.org/models.tar.gz", "MPL-2.0", archived=True)
    with pytest.raises(EncoderWeightsError, match=r"unpack graph\.pb from https://example\.org/models\.tar\.gz"):
        list(fetch(file))


def test_the_hash_at_first_use_holds_ever_after(published: Path, cache: Path) -> None:
    file = file_at(published)
    list(fetch(file))
    assert verify(file) == verify(file) == sha256(CONTENT)
    assert (cache / "network.pt.sha256").read_text() == f"{sha256(CONTENT)}  network.pt\n"
    file.path.write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(EncoderWeightsError, match=r"network\.pt\.sha256 beside it \(delete that to trust anew\)"):
        verify(file)


def test_a_hash_that_the_user_knows_is_pinned_beforehand(published: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "network.pt.sha256").write_text(f"{'A' * 64}  network.pt\n")
    file = file_at(published)
    list(fetch(file))
    with pytest.raises(EncoderWeightsError, match="a" * 64):
        verify(file)


@pytest.mark.parametrize("note", ["", "what?\n"])
def test_a_note_without_a_hash_is_no_reason_to_trust(published: Path, cache: Path, note: str) -> None:
    cache.mkdir(parents=True)
    (cache / "network.pt.sha256").write_text(note)
    file = file_at(published)
    list(fetch(file))
    with pytest.raises(EncoderWeightsError, match="holds no SHA-256"):
        verify(file)


def test_a_missing_file_is_named() -> None:
    file = file_at(Path("/nowhere.pt"))
    with pytest.raises(EncoderWeightsError, match=r"/network\.pt cannot be used"):
        verify(file)


def test_a_cache_that_takes_no_note_is_named(published: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_at(published)
    list(fetch(file))

    def refused(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "write_text", refused)
    with pytest.raises(EncoderWeightsError, match=r"network\.pt\.sha256 cannot be used \(Permission denied\)"):
        verify(file)


class Destructive:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran-on-load"),)


def test_a_checkpoint_is_read_as_data_only(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = file_at(Path("/unused"))
    file.path.parent.mkdir(parents=True)
    torch.save({"weight": torch.ones(2)}, file.path)
    assert load_checkpoint(file)["weight"].tolist() == [1, 1]
    with pytest.raises(EncoderWeightsError, match="does not hold the weights of Linear"):
        load_state(torch.nn.Linear(3, 3), load_checkpoint(file), file)
    for content in (pickle.dumps({"weight": Destructive()}, protocol=2), b"<html>not found</html>", b""):
        file.path.with_name("network.pt.sha256").unlink()
        file.path.write_bytes(content)
        with pytest.raises(EncoderWeightsError, match="is no PyTorch checkpoint"):
            load_checkpoint(file)
    assert not Path("ran-on-load").exists()
