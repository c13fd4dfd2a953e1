"""Pictures kept on disk: the same when they come back, no file to find, an error that says what to do."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from talkinghead.picture_file import PictureFile
from tools.errors import OutputError


def test_pictures_come_back_as_they_were(tmp_path: Path) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), np.uint8))
    file = PictureFile(tmp_path, (7, 9, 3))
    for count, picture in enumerate(pictures, start=1):
        file.append(picture)
        assert len(file) == count and np.array_equal(file[count - 1], picture)
        assert np.array_equal(file[0], pictures[0])  # read between writes
    for index in (3, -1, 0, np.int64(2)):
        assert np.array_equal(file[index], pictures[index])
    assert np.array_equal(np.stack(list(file)), np.stack(pictures))
    with pytest.raises(IndexError):
        file[5]


def test_a_picture_is_the_callers_own(tmp_path: Path) -> None:
    file = PictureFile(tmp_path, (4, 4))
    file.append(np.eye(4, dtype=np.uint8))
    file[0][:] = 7
    assert np.array_equal(file[0], np.eye(4))


def test_parts_of_a_larger_picture_are_written_right(tmp_path: Path) -> None:
    whole = np.arange(64, dtype=np.uint8).reshape(8, 8)
    file = PictureFile(tmp_path, (4, 4))
    file.append(whole[::2, ::2])
    assert np.array_equal(file[0], whole[::2, ::2])


@pytest.mark.parametrize("picture", [np.zeros((4, 5), np.uint8), np.zeros((4, 4), np.float32)])
def test_other_pictures_are_refused(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[4, 4\], got"):
        PictureFile(tmp_path, (4, 4)).append(picture)


def test_nothing_is_left(tmp_path: Path) -> None:
    file = PictureFile(tmp_path, (4, 4))
    file.append(np.zeros((4, 4), np.uint8))
    del file
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_with_the_remedy(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk's."""
    file, limits = PictureFile(tmp_path, (100, 100)), resource.getrlimit(resource.RLIMIT_FSIZE)
    file.append(np.zeros((100, 100), np.uint8))
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot keep the training frames .* make room there"):
            file.append(np.zeros((100, 100), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot keep the training frames"):
        PictureFile(tmp_path / "missing", (4, 4))
