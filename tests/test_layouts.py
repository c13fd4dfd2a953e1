"""The .npy layouts of TalkingGaussian, ER-NeRF and SyncTalk: shapes, rates and what a row holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoders.acoustic.layouts import LAYOUTS, ROW_RATE, VIDEO_RATE, window_size, windows


def numbered(count: int, channels: int) -> np.ndarray:
    """Row r holds r + 1 everywhere."""
    return np.repeat(np.arange(1, count + 1, dtype=np.float32)[:, None], channels, axis=1)


def gathered(rows: np.ndarray, block: int) -> np.ndarray:
    pieces = (rows[start : start + block] for start in range(0, len(rows), block))
    return np.concatenate(list(windows(pieces, rows.shape[1])))


def test_the_projects_have_two_rows_for_a_frame() -> None:
    assert ROW_RATE == 2 * VIDEO_RATE == 50


@pytest.mark.parametrize("channels", [29, 44, 64, 512, 768])
@pytest.mark.parametrize("block", [1, 7, 1000])
def test_sixteen_rows_around_the_frame(channels: int, block: int) -> None:
    """As their DeepSpeech script: rows padded with 8 zeros on both sides, a window of 16 at every second row."""
    rows = numbered(100, channels)
    padded = np.pad(rows, ((8, 8), (0, 0)))
    expected = np.stack([padded[first : first + 16] for first in range(0, len(padded) - 16, 2)])
    result = gathered(rows, block)
    assert result.shape == (50, 16, channels) and result.dtype == np.float32 and result.flags.c_contiguous
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_hubert_has_its_two_rows(block: int) -> None:
    rows = numbered(100, 1024)
    np.testing.assert_array_equal(gathered(rows, block), rows.reshape(-1, 2, 1024))


@pytest.mark.parametrize("count", [0, 2, 4, 16])
@pytest.mark.parametrize("channels", [29, 1024])
def test_short_sounds_have_all_their_frames(count: int, channels: int) -> None:
    pieces = list(windows([numbered(count, channels)], channels))
    assert sum(len(piece) for piece in pieces) == count // 2
    assert all(piece.shape[1:] == (window_size(channels), channels) for piece in pieces)


@pytest.mark.parametrize("channels", [29, 1024])
def test_both_widths_pass_through_the_projects_audio_network(channels: int) -> None:
    """Four convolutions of stride 2 over at most 16 columns, which must leave one: `AudioNet` in all three projects."""
    auds = torch.from_numpy(gathered(numbered(40, channels), 40)).permute(0, 2, 1)
    x = auds[:, :, :16]
    for _ in range(4):
        x = torch.nn.functional.max_pool1d(x, 3, stride=2, padding=1)
    assert x.shape == (20, channels, 1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_instructions_name_what_must_be_changed(layout: str) -> None:
    own, foreign = (LAYOUTS[layout].instructions(channels) for channels in (1024, 512))
    assert "audio_in_dim" not in own and "aud_hu.npy" in own
    assert "audio_in_dim = 512" in foreign and "aud_hu.npy" in foreign
    assert "aud_ds.npy" in LAYOUTS[layout].instructions(29) and "deepspeech" in LAYOUTS[layout].instructions(29)
    assert "{" not in own
