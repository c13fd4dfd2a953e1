"""The avatar folder: exact round trips, writing that loses nothing, and every way in which a folder can be wrong."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from media_samples import number_in, write_clip
from plyfile import PlyData
from safetensors.torch import load_file, save_file
from tiny_avatar import TinyClip, tiny_avatar

from encoders.features import speech_features
from render.blend_net import BlendNet
from render.head_model import HeadModel
from talkinghead import avatar as avatar_module
from talkinghead import folder_swap
from talkinghead.avatar import BLEND_NET, FILES, Avatar, load_avatar, save_avatar
from talkinghead.errors import DamagedAvatarError, NewerAvatarError, NotAnAvatarError, OlderAvatarError
from talkinghead.file_record import FileRecord
from talkinghead.gaussians_ply import read_gaussians, write_gaussians
from talkinghead.info import Fact, describe
from talkinghead.manifest import FORMAT_VERSION, read_manifest, write_manifest
from tools.errors import OutputError, UserError
from tools.tracked_clip import CropBox
from tools.video import read_frames

FPS, FRAMES = Fraction(25), 40
COUNTS = (40, 40, 10)
CLIP = TinyClip(FRAMES, FPS, width=64, height=48, crop=CropBox(left=10, top=2, side=40, resolution=32), missing=(3,))


def sample_clip(path: Path) -> Path:
    """FRAMES numbered pictures of 64x48 px with a tone."""
    tone = (0.3 * np.sin(np.arange(round(float(FRAMES / FPS) * 16_000)) / 5)).astype(np.float32)
    return write_clip(path, [k / FPS for k in range(FRAMES)], sound=(tone, 16_000, Fraction(0)))


def scramble(model: HeadModel, seed: int) -> HeadModel:
    """Makes every parameter and buffer random, so that no two can be mistaken for each other."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return model


def sample_avatar(seed: int = 0) -> Avatar:
    """An avatar of `sample_clip`, not yet saved."""
    avatar = tiny_avatar(CLIP)
    facts = {"fitted_frames": FRAMES - 8, "findings": ("the frame rate varies",), "source_name": "Zoë's clip.mp4"}
    return dataclasses.replace(
        avatar,
        manifest=dataclasses.replace(avatar.manifest, seed=seed, **facts),
        model=scramble(avatar.model, seed),
        background=np.random.default_rng(seed).integers(0, 256, avatar.background.shape, dtype=np.uint8),
    )


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_clip(tmp_path_factory.mktemp("clip") / "clip.mov")


@pytest.fixture(scope="module")
def original() -> Avatar:
    return sample_avatar()


@pytest.fixture(scope="module")
def saved_once(original: Avatar, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("avatars") / "a.avatar"
    save_avatar(original, clip, folder)
    return folder


@pytest.fixture
def folder(saved_once: Path, tmp_path: Path) -> Path:
    """A fresh copy of a saved avatar, to be damaged."""
    return Path(shutil.copytree(saved_once, tmp_path / "a.avatar"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def seal(folder: Path, files: Sequence[str] = FILES, **changes: object) -> None:
    """Writes an avatar.json that vouches for the folder's files as they are, with some facts changed."""
    facts = json.loads((folder / "avatar.json").read_text(encoding="utf-8"))
    records = {name: dataclasses.asdict(FileRecord.of(folder / name)) for name in files}
    reseal(folder, {"avatar": facts["avatar"] | changes, "files": records})


def reseal(folder: Path, facts: dict[str, object], version: object = FORMAT_VERSION) -> None:
    """Writes facts as avatar.json with a checksum that matches, as someone with ill intent could."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    (folder / "avatar.json").write_text(json.dumps({"format_version": version, "sha256": digest, **facts}))


# Round trips


def test_everything_comes_back_bit_for_bit(original: Avatar, saved_once: Path) -> None:
    loaded = load_avatar(saved_once)
    assert loaded.manifest == original.manifest
    assert loaded.path == saved_once
    for part in ("model", "encoder"):
        before, after = getattr(original, part).state_dict(), getattr(loaded, part).state_dict()
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            assert torch.equal(tensor, after[name]) and tensor.dtype == after[name].dtype, name
    for item in dataclasses.fields(original.tracks):
        np.testing.assert_array_equal(getattr(loaded.tracks, item.name), getattr(original.tracks, item.name))
    np.testing.assert_array_equal(loaded.background, original.background)
    assert loaded.lips.settings == original.lips.settings
    assert loaded.model.intrinsics == original.model.intrinsics
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def test_a_loaded_avatar_hears_and_moves_as_before(original: Avatar, saved_once: Path) -> None:
    loaded = load_avatar(saved_once)
    samples = 0.1 * np.random.default_rng(1).normal(size=32_000).astype(np.float32)
    codes = [a.lips.predict(speech_features(samples, a.encoder, a.manifest.fps, 50)) for a in (original, loaded)]
    np.testing.assert_array_equal(*codes)
    code = torch.linspace(-1, 1, original.manifest.codes)
    terms = [
        a.model.face.field(a.model.face.field.position_terms(a.model.face.means), code) for a in (original, loaded)
    ]
    assert torch.equal(terms[0].means, terms[1].means)


def mended_avatar() -> Avatar:
    avatar, net = sample_avatar(), BlendNet().requires_grad_(False)
    for parameter in net.parameters():
        parameter.normal_(generator=torch.Generator().manual_seed(len(parameter)))
    return dataclasses.replace(avatar, manifest=dataclasses.replace(avatar.manifest, blend_net=True), blend_net=net)


def test_a_blend_net_comes_back_bit_for_bit_and_info_says_so(clip: Path, tmp_path: Path) -> None:
    avatar = mended_avatar()
    loaded = load_avatar(save_avatar(avatar, clip, tmp_path / "a.avatar").path)
    assert loaded.manifest == avatar.manifest
    for name, tensor in avatar.blend_net.state_dict().items():
        assert torch.equal(tensor, loaded.blend_net.state_dict()[name])
    assert Fact("mended by", "a Blend-Net") in describe(loaded.path)
    again = load_avatar(save_avatar(loaded, clip, tmp_path / "b.avatar").path)
    assert (again.path / BLEND_NET).read_bytes() == (loaded.path / BLEND_NET).read_bytes()


def test_an_avatar_without_a_blend_net_has_no_such_file(saved_once: Path) -> None:
    assert load_avatar(saved_once).blend_net is None and not (saved_once / BLEND_NET).exists()
    assert not any(fact.name == "mended by" for fact in describe(saved_once))


@pytest.mark.parametrize("damage", ["missing", "cut off", "other shapes", "other names", "doubles", "not listed"])
def test_a_damaged_blend_net(clip: Path, tmp_path: Path, damage: str) -> None:
    folder = save_avatar(mended_avatar(), clip, tmp_path / "a.avatar").path
    path = folder / BLEND_NET
    tensors = load_file(path)
    changes = {
        "other shapes": {name: tensor[:1].contiguous() for name, tensor in tensors.items()},
        "other names": {f"x.{name}": tensor for name, tensor in tensors.items()},
        "doubles": {name: tensor.double() for name, tensor in tensors.items()},
    }
    if damage in changes:
        save_file(changes[damage], path)
        seal(folder, files=(*FILES, BLEND_NET))
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-5])
        seal(folder, files=(*FILES, BLEND_NET))
    elif damage == "missing":
        path.unlink()
    else:
        seal(folder)
    with pytest.raises(DamagedAvatarError, match=r"avatar\.json|blend_net"):
        load_avatar(folder)


def test_the_footage_is_in_the_folder(saved_once: Path, clip: Path) -> None:
    info = load_avatar(saved_once).source_video()
    assert [number_in(frame) for frame in read_frames(info)] == list(range(FRAMES))
    assert info.has_audio and info.path.parent == saved_once
    clip_of_a_copy = save_avatar(load_avatar(saved_once), info.path, saved_once.with_name("copy.avatar"))
    assert clip_of_a_copy.source_video().frame_count == FRAMES


@pytest.mark.parametrize(
    "name", ["with spaces.avatar", "Zoë “北京” 100%.avatar", "-o.avatar", "no ending", "it's;rm #.avatar"]
)
def test_names_of_folders(
    original: Avatar, clip: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_avatar(original, clip, Path(name))
    assert os.listdir(tmp_path) == [name]
    assert load_avatar(name).manifest == original.manifest


def test_extras_go_in(original: Avatar, clip: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>fine</p>")
    save_avatar(original, clip, tmp_path / "a.avatar", extras=[report])
    assert (tmp_path / "a.avatar" / "report.html").read_text() == "<p>fine</p>"
    load_avatar(tmp_path / "a.avatar")


# The PLY file


def test_splat_viewers_find_what_they_read(saved_once: Path, original: Avatar) -> None:
    vertices = PlyData.read(str(saved_once / "gaussians.ply"))["vertex"]
    names = [item.name for item in vertices.properties]
    assert names[:14] == [
        *("x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0", "scale_1", "scale_2"),
        *("rot_0", "rot_1", "rot_2", "rot_3"),
    ]
    assert {item.val_dtype for item in vertices.properties} == {"f4", "u1"}
    model = original.model
    colors = torch.sigmoid(torch.cat([model.face.color_logits, model.body.color_logits, model.mouth.color_logits]))
    shown = 0.5 + 0.28209479177387814 * np.stack([vertices[f"f_dc_{k}"] for k in range(3)], 1)
    np.testing.assert_allclose(shown, colors.detach().numpy(), atol=1e-6)
    logits = torch.cat([model.face.opacity_logits, model.body.opacity_logits, model.mouth.opacity_logits])
    np.testing.assert_array_equal(vertices["opacity"], logits.detach().numpy())
    scales = torch.cat([model.face.log_scales, model.body.log_scales, model.mouth.log_scales])
    np.testing.assert_array_equal(vertices["scale_2"], scales[:, 2].detach().numpy())
    np.testing.assert_array_equal(np.bincount(vertices["branch"]), COUNTS)
    np.testing.assert_array_equal(vertices["rot_0"][: COUNTS[0]], model.face.quats[:, 0].detach().numpy())


def test_extreme_gaussians_survive(tmp_path: Path) -> None:
    model = scramble(tiny_avatar(CLIP).model, 3)
    with torch.no_grad():
        model.face.color_logits[0] = torch.tensor([-200.0, 200.0, 1e-30])
        model.face.opacity_logits[:2] = torch.tensor([-87.5, 1e30])
        model.body.means[0] = torch.tensor([1e-38, -0.0, 3.4e38])
    write_gaussians(model, tmp_path / "g.ply")
    read = read_gaussians(tmp_path / "g.ply", COUNTS)
    assert torch.equal(read["face"]["color_logits"], model.face.color_logits)
    assert torch.equal(read["face"]["opacity_logits"], model.face.opacity_logits)
    assert torch.equal(read["body"]["means"], model.body.means)
    shown = PlyData.read(str(tmp_path / "g.ply"))["vertex"]
    assert np.isfinite(shown["f_dc_0"]).all() and np.isfinite(shown["f_dc_1"]).all()


@pytest.mark.parametrize("counts", [(39, 40, 10), (40, 41, 10), (30, 50, 10)])
def test_ply_of_other_counts(tmp_path: Path, counts: tuple[int, int, int]) -> None:
    write_gaussians(tiny_avatar(CLIP).model, tmp_path / "g.ply")
    with pytest.raises(DamagedAvatarError, match="does not hold"):
        read_gaussians(tmp_path / "g.ply", counts)


def test_ply_that_announces_more_than_it_holds(tmp_path: Path) -> None:
    write_gaussians(tiny_avatar(CLIP).model, tmp_path / "g.ply")
    data = (tmp_path / "g.ply").read_bytes()
    (tmp_path / "g.ply").write_bytes(data.replace(b"element vertex 90\n", b"element vertex 900000000000\n"))
    with pytest.raises(DamagedAvatarError, match="does not hold"):
        read_gaussians(tmp_path / "g.ply", COUNTS)


# Writing loses nothing

STEPS = ["write_gaussians", "write_tensors", "write_tracks", "stream_copy", "write_manifest"]


class Crash(BaseException):
    """Stands for whatever ends a program: not an Exception, so nothing handles it by accident."""


def crash(*args: object, **kwargs: object) -> None:
    raise Crash


@pytest.fixture
def existing(folder: Path, clip: Path) -> Iterator[tuple[Path, dict[str, bytes]]]:
    """An avatar that is there already; the test must leave it whole and nothing beside it."""
    before = contents(folder)
    yield folder, before
    assert contents(folder) == before
    assert os.listdir(folder.parent) == [folder.name]
    load_avatar(folder)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("error", [Crash(), KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_crash_while_writing_keeps_the_old_avatar(
    existing: tuple[Path, dict[str, bytes]],
    clip: Path,
    step: str,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []

    def fail(*args: object, **kwargs: object) -> None:
        written.extend(path.name for path in existing[0].parent.glob("*"))
        raise error

    monkeypatch.setattr(avatar_module, step, fail)
    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
        save_avatar(sample_avatar(1), clip, existing[0])
    assert sorted(written) == [".a.avatar.unfinished", "a.avatar"]


def test_a_crash_between_the_renames_keeps_the_old_avatar(
    existing: tuple[Path, dict[str, bytes]], clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if self.name.endswith(".unfinished"):
            raise Crash
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(Crash):
        save_avatar(sample_avatar(1), clip, existing[0])


@pytest.mark.parametrize("action", ["load", "save"])
def test_a_power_cut_between_the_renames_is_mended(folder: Path, clip: Path, action: str) -> None:
    before = contents(folder)
    folder.rename(folder.with_name(".a.avatar.previous"))
    shutil.copytree(folder.with_name(".a.avatar.previous"), folder.with_name(".a.avatar.unfinished"))
    if action == "load":
        load_avatar(folder)
        assert contents(folder) == before
    else:
        save_avatar(sample_avatar(1), clip, folder)
        assert load_avatar(folder).manifest.seed == 1
        assert os.listdir(folder.parent) == ["a.avatar"]


def test_a_power_cut_before_the_old_one_is_removed_is_mended(folder: Path, clip: Path) -> None:
    shutil.copytree(folder, folder.with_name(".a.avatar.previous"))
    (folder.with_name(".a.avatar.previous") / "notes.txt").write_text("mine")
    save_avatar(sample_avatar(1), clip, folder)
    assert os.listdir(folder.parent) == ["a.avatar"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_everything_is_on_the_disk_before_a_name_changes(
    folder: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(
        folder_swap.os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))
    )
    monkeypatch.setattr(Path, "rename", lambda self, to: (events.append("rename"), rename(self, to))[1])
    save_avatar(sample_avatar(1), clip, folder)
    flushed = {Path(name).name for name in events[: events.index("rename")]}
    assert {*FILES, "avatar.json", ".a.avatar.unfinished"} <= flushed


def test_a_new_avatar_replaces_the_old_one_and_keeps_a_users_notes(folder: Path, clip: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    save_avatar(sample_avatar(1), clip, folder)
    assert load_avatar(folder).manifest.seed == 1
    assert (folder / "notes.txt").read_text() == "mine"
    assert os.listdir(folder.parent) == ["a.avatar"]


def test_other_peoples_folders_are_not_replaced(original: Avatar, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"jpg")
    (tmp_path / "file").write_bytes(b"data")
    for name, message in (("photos", "holds other files"), ("file", "it is a file"), ("none/a", "create it first")):
        with pytest.raises(OutputError, match=message):
            save_avatar(original, clip, tmp_path / name)
    assert contents(tmp_path) == {"photos/holiday.jpg": b"jpg", "file": b"data"}


def test_footage_that_cannot_be_copied(original: Avatar, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(UserError):
        save_avatar(original, tmp_path / "clip.mp4", tmp_path / "a.avatar")
    assert os.listdir(tmp_path) == ["clip.mp4"]


# Reading: every way in which a folder can be wrong


def test_paths_without_an_avatar(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in (
        (tmp_path / "none", "does not exist"),
        (clip, "is a file"),
        (tmp_path / "empty", "has no avatar"),
    ):
        with pytest.raises(NotAnAvatarError, match=message):
            load_avatar(path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DamagedAvatarError, match=f"{name} is missing"):
        load_avatar(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("name", [*FILES, "avatar.json"])
def test_a_file_is_cut_off(folder: Path, name: str, share: float) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(share * (len(data) - 2))])
    with pytest.raises(DamagedAvatarError, match=name):
        load_avatar(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_bit_of_a_file_has_flipped(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 4
    (folder / name).write_bytes(data)
    with pytest.raises(DamagedAvatarError, match=f"{name} has changed"):
        load_avatar(folder)


@pytest.mark.parametrize("bit", range(8))
def test_any_bit_of_the_manifest_may_flip(folder: Path, bit: int) -> None:
    path = folder / "avatar.json"
    manifest, records = read_manifest(path)
    data = path.read_bytes()
    for index in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[index] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            assert read_manifest(path) == (manifest, records), "a flip may pass only if it changes nothing"
        except (DamagedAvatarError, NewerAvatarError, OlderAvatarError):
            continue


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", '{"format_version": null}', "{}", '{"format_version": 3}', "[" * 100_000]
)
def test_a_manifest_that_is_other_json(folder: Path, text: str) -> None:
    (folder / "avatar.json").write_text(text)
    with pytest.raises(DamagedAvatarError, match=r"avatar\.json"):
        load_avatar(folder)


def test_a_newer_format(folder: Path) -> None:
    reseal(folder, {"anything": "else"}, version=FORMAT_VERSION + 1)
    expected = rf"format {FORMAT_VERSION + 1}, and this talkinghead reads 3 to {FORMAT_VERSION}: update"
    with pytest.raises(NewerAvatarError, match=expected):
        load_avatar(folder)


def test_an_older_format_says_what_to_fit_again(folder: Path) -> None:
    reseal(folder, {"anything": "else"}, version=1)
    with pytest.raises(OlderAvatarError, match=r"format 1, .* fit it again from .*source\.mp4"):
        load_avatar(folder)


def test_an_avatar_of_format_3_is_read_and_saved_anew_as_of_this_release(folder: Path, clip: Path) -> None:
    facts = json.loads((folder / "avatar.json").read_text(encoding="utf-8"))
    later = ("consent", "mouth_kind", "blend_net", "experts")
    older = {name: value for name, value in facts["avatar"].items() if name not in later} | {"format_version": 3}
    reseal(folder, {"avatar": older, "files": facts["files"]}, version=3)
    avatar = load_avatar(folder)
    assert (avatar.manifest.format_version, avatar.manifest.consent, avatar.manifest.mouth_kind) == (3, "", "gaussians")
    saved = save_avatar(avatar, clip, folder)
    assert load_avatar(folder).manifest == saved.manifest == dataclasses.replace(avatar.manifest, format_version=5)


@pytest.mark.parametrize(("version", "told"), [(3, 4), (4, 3)])
def test_a_format_that_is_told_in_two_ways(folder: Path, version: int, told: int) -> None:
    facts = json.loads((folder / "avatar.json").read_text(encoding="utf-8"))
    reseal(folder, {"avatar": facts["avatar"] | {"format_version": told}, "files": facts["files"]}, version=version)
    with pytest.raises(DamagedAvatarError, match=f"expected format {version}, got {told}"):
        load_avatar(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "source.mp4/../../x", "SOURCE.MP4"])
def test_names_in_the_manifest_open_nothing_else(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("secret")
    facts = json.loads((folder / "avatar.json").read_text(encoding="utf-8"))
    files = dict(facts["files"])
    files[name] = files.pop("source.mp4")
    reseal(folder, {"avatar": facts["avatar"], "files": files})
    with pytest.raises(DamagedAvatarError, match="does not list"):
        load_avatar(folder)


@pytest.mark.parametrize("name", ["avatar.json", "source.mp4", "motion.safetensors"])
def test_links_open_nothing_else(folder: Path, name: str) -> None:
    """What they lead to may even be as the manifest says."""
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(DamagedAvatarError, match="is a link"):
        load_avatar(folder)


def test_a_huge_manifest_is_not_read(folder: Path) -> None:
    with (folder / "avatar.json").open("rb+") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(DamagedAvatarError, match="expected at most 1,000,000 bytes"):
        load_avatar(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"face": 41}, "expected"),
        ({"face": 30, "body": 50}, "expected"),
        ({"face": 10_000_001}, "expected face"),
        ({"face": -1}, "expected face"),
        ({"face": True}, "expected int"),
        ({"codes": 6}, "expected"),
        ({"codes": 2}, "expected|predictor"),
        ({"codes": 10**9}, "expected codes"),
        ({"frame_count": FRAMES + 1}, "expected"),
        ({"fitted_frames": FRAMES + 1}, "expected fitted_frames"),
        ({"fps": "30/1"}, "frames/s"),
        ({"fps": "0/1"}, "expected fps"),
        ({"fps": "1/0"}, "damaged"),
        ({"fps": 25.0}, "expected str"),
        ({"fps": "1e999999999"}, "expected a fraction"),
        ({"focal_px": float("nan")}, "expected focal_px"),
        ({"sound_delay_frames": float("-inf")}, "expected sound_delay_frames"),
        ({"topology": "wax"}, "expected a topology"),
        ({"topology": "face-alignment"}, "landmarks"),
        ({"crop": {"left": 30, "top": 2, "side": 40, "resolution": 32}}, "expected crop.left"),
        ({"crop": {"left": 10, "top": 2, "side": 40, "resolution": 31}}, "background"),
        ({"crop": {"left": 10, "top": 2, "side": 40, "resolution": 40_000}}, "expected crop.resolution"),
        ({"crop": {"left": 10, "top": 2, "side": 40}}, "expected the fields"),
        ({"field": {"plane_resolution": 5, "plane_channels": 2, "hidden": 4}}, "planes"),
        ({"field": {"plane_resolution": 10**6, "plane_channels": 2, "hidden": 4}}, "expected field.plane_resolution"),
        ({"findings": "none"}, "expected list"),
        ({"consent": "yes\x1b[2J"}, "expected a statement of consent of one line"),
        ({"consent": "x" * 501}, "expected a statement of consent"),
        ({"colour": "red"}, "expected the fields"),
    ],
)
def test_facts_that_contradict_the_files(folder: Path, changes: dict[str, object], message: str) -> None:
    """The checksums match: what is caught here was written by someone, or by a bug."""
    seal(folder, **changes)
    with pytest.raises(DamagedAvatarError, match=message):
        load_avatar(folder)


def replace_tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Path], None]:
    """A change to one tensor of a file; None removes it."""

    def apply(path: Path) -> None:
        tensors = load_file(path)
        changed = change(tensors.pop(name))
        save_file(tensors if changed is None else tensors | {name: changed.contiguous()}, path)

    return apply


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff" * 64)


def greedy_picture(path: Path) -> None:
    """A PNG with a part that is said to take 2 GB."""
    content = path.read_bytes()
    path.write_bytes(content[:33] + b"\x7f\xff\xff\xffIDAT" + content[33:])


def disguised_picture(path: Path) -> None:
    """A large JPEG with a PNG's size at the place where PNGs have it, in an application segment that decoders skip."""
    jpeg = cv2.imencode(".jpg", np.zeros((3000, 3000), np.uint8))[1].tobytes()
    segment = bytearray(b"\xff\xe5\x00\x1e" + bytes(28))
    segment[14:22] = path.read_bytes()[16:24]
    path.write_bytes(jpeg[:2] + segment + jpeg[2:])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        *((name, garbage, "cannot be|is no picture|does not hold") for name in FILES if name != "source.mp4"),
        ("background.png", disguised_picture, "is no picture of"),
        ("background.png", greedy_picture, "cannot be decoded"),
        ("motion.safetensors", replace_tensor("face.field.basis", lambda t: t[1:]), "face.field.basis"),
        ("motion.safetensors", replace_tensor("mouth.field.reach", lambda t: None), "holds nothing under mouth"),
        ("motion.safetensors", replace_tensor("face.field.reach", lambda t: t.double()), "float64"),
        ("tracks.safetensors", replace_tensor("found", lambda t: t.float()), "found"),
        ("tracks.safetensors", replace_tensor("landmarks", lambda t: t[:, :5]), "landmarks"),
        ("tracks.safetensors", replace_tensor("landmarks", lambda t: t * 1e35), "landmarks that are none"),
        ("tracks.safetensors", replace_tensor("landmarks", lambda t: t * np.nan), "no frame with a face"),
        ("tracks.safetensors", replace_tensor("head_rotations", lambda t: t * np.nan), "head_rotations that are none"),
        ("tracks.safetensors", replace_tensor("lower", lambda t: t[:, :-1]), "lower"),
        ("speech_encoder.safetensors", replace_tensor("lips.weights", lambda t: t[:, :2]), "weights"),
        ("speech_encoder.safetensors", replace_tensor("lips.weights", lambda t: t[1:]), "weights"),
        ("speech_encoder.safetensors", replace_tensor("lips.support", lambda t: t[:, 1:]), "support"),
        ("speech_encoder.safetensors", replace_tensor("lips.feature_mean", lambda t: t[1:]), "feature_mean"),
        ("speech_encoder.safetensors", replace_tensor("lips.prior_map", lambda t: t[1:]), "prior_map"),
        ("speech_encoder.safetensors", replace_tensor("lips.prior.weights", lambda t: t[1:]), "weights"),
        ("speech_encoder.safetensors", replace_tensor("lips.prior.mean", lambda t: None), "predictor"),
        ("speech_encoder.safetensors", replace_tensor("lips.fps", lambda t: t * 0), "predictor"),
        ("speech_encoder.safetensors", replace_tensor("lips.fps", lambda t: t + 5), "frames/s"),
        ("speech_encoder.safetensors", replace_tensor("lips.settings.pause_s", lambda t: t * 0 + 1e12), "settings"),
        ("speech_encoder.safetensors", replace_tensor("lips.settings.window_s", lambda t: t * 0), "settings"),
        ("speech_encoder.safetensors", replace_tensor("lips.regression.local", lambda t: t * np.nan), "settings"),
        ("speech_encoder.safetensors", replace_tensor("lips.support", lambda t: t[0, 0]), "support"),
        ("speech_encoder.safetensors", replace_tensor("lips.closed_code", lambda t: None), "closed_code"),
        ("speech_encoder.safetensors", replace_tensor("encoder.embedding.bias", lambda t: t[1:]), "embedding.bias"),
    ],
)
def test_files_that_contradict_the_facts(folder: Path, name: str, change: Callable[[Path], None], message: str) -> None:
    change(folder / name)
    seal(folder)
    with pytest.raises(DamagedAvatarError, match=message) as caught:
        load_avatar(folder)
    assert "\n" not in str(caught.value)


def test_other_footage(folder: Path) -> None:
    (folder / "source.mp4").write_bytes((Path(avatar_module.__file__).parent / "assets/demo_clip.mp4").read_bytes())
    seal(folder)
    with pytest.raises(DamagedAvatarError, match=r"64x48 px, 40 frames at 25/s"):
        load_avatar(folder).source_video()


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes_as_manifest(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("m") / "avatar.json"
    path.write_bytes(data)
    with pytest.raises(DamagedAvatarError):
        read_manifest(path)


@pytest.mark.parametrize(
    "fps", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60), Fraction(12_345_678, 1_234_567)]
)
def test_frame_rates_are_exact(tmp_path: Path, fps: Fraction) -> None:
    manifest = dataclasses.replace(sample_avatar().manifest, fps=fps, focal_px=0.1 + 0.2)
    write_manifest(manifest, {}, tmp_path)
    assert read_manifest(tmp_path / "avatar.json") == (manifest, {})
