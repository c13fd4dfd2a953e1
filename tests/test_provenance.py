"""The mark of being made by AI: the C2PA library's own reader and ffmpeg see it, tampering shows, media stay."""

from __future__ import annotations

import io
import json
import subprocess
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import c2pa
import cv2
import numpy as np
import pytest
from media_samples import write_sound
from test_bmff import kinds, made_video, packets
from test_certificates import KEYS, issued, pem_of
from tiny_avatar import save_tiny_avatar

from talkinghead import __version__
from talkinghead.avatar import Avatar, load_avatar, save_avatar
from talkinghead.avatar_log import LOG_NAME
from talkinghead.certificates import CERTIFICATE_VARIABLE, KEY_VARIABLE, Credentials, credentials
from talkinghead.cli import ASSETS, main
from talkinghead.config import FitConfig, SpeakConfig
from talkinghead.doctor import diagnose
from talkinghead.errors import CertificateError, MarkError
from talkinghead.file_record import FileRecord
from talkinghead.info import describe
from talkinghead.progress import Progress
from talkinghead.provenance import Provenance, Recording, mark_video
from talkinghead.speak import speak
from tools.bmff import C2PA_UUID, XMP_UUID, top_level_boxes
from tools.video import VideoWriter

CONSENT = "Zoë “Z” Example agreed on paper, 2026-01-02 <see file>"
SOURCE_SHA256 = "5" * 64
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
STATEMENT = Provenance(
    True, SOURCE_SHA256, (Recording("ü & <co>.wav", "a" * 64),), CONSENT, "2026-01-02T03:04:05+00:00"
)
UNTRUSTED = ["signingCredential.untrusted"]


@pytest.fixture(scope="module")
def signer(signing_certificate: Path) -> Credentials:
    return credentials()


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory, signer: Credentials) -> Path:
    """A video that bears `STATEMENT`. No test may change it."""
    path = made_video(tmp_path_factory.mktemp("marked"))
    mark_video(path, STATEMENT, signer)
    return path


@pytest.fixture
def avatar(tmp_path: Path) -> Avatar:
    """With a statement of consent."""
    tiny = save_tiny_avatar(tmp_path)
    stating = replace(tiny, manifest=replace(tiny.manifest, consent=CONSENT, source_sha256=SOURCE_SHA256))
    return save_avatar(stating, tmp_path / "tiny-source.mp4", tmp_path / "tiny.avatar")


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    samples = (0.1 * np.random.default_rng(0).normal(size=8_000)).astype(np.float32)
    return write_sound(tmp_path / "Rede “ü”.wav", samples, 16_000)


def report(path: Path, settings: dict[str, object] | None = None) -> dict[str, object]:
    """What the library's own reader says, nothing of ours between."""
    kind = {".mp4": "video/mp4", ".mov": "video/quicktime", ".png": "image/png"}[path.suffix]
    with path.open("rb") as file, c2pa.Context.from_dict(settings or {}) as context:
        return json.loads(c2pa.Reader(kind, file, context=context).json())


def manifest_of(path: Path) -> dict[str, object]:
    """The active manifest, which must be valid but for its unknown signer."""
    found = report(path)
    assert found["validation_state"] == "Valid"
    assert [item["code"] for item in found["validation_status"]] == UNTRUSTED
    return found["manifests"][found["active_manifest"]]


def facts(path: Path) -> dict[str, str]:
    return {fact.name: fact.value for fact in describe(path)}


def xmp_by_ffprobe(path: Path) -> str:
    command = ["ffprobe", "-v", "error", "-export_xmp", "1", "-show_entries", "format_tags=xmp", "-of", "json", path]
    shown = subprocess.run(command, capture_output=True, check=True).stdout
    return json.loads(shown)["format"].get("tags", {}).get("xmp", "")


def run(avatar: Avatar, speech: Path, output: Path, **options: object) -> tuple[str, ...]:
    job = speak(avatar, speech, output, SpeakConfig(**options))
    try:
        while True:
            assert isinstance(next(job), Progress)
    except StopIteration as finished:
        return finished.value


# What is in the file


def test_footage_in_which_the_mouth_was_exchanged(avatar: Avatar, speech: Path, tmp_path: Path) -> None:
    assert run(avatar, speech, tmp_path / "out.mp4") == ()
    manifest = manifest_of(tmp_path / "out.mp4")
    (maker,) = manifest["claim_generator_info"]
    assert (maker["name"], maker["version"]) == ("talkinghead", __version__)
    data = {assertion["label"]: assertion["data"] for assertion in manifest["assertions"]}
    opened, edited = data["c2pa.actions.v2"]["actions"]
    assert (opened["action"], edited["action"]) == ("c2pa.opened", "c2pa.edited")
    assert edited["digitalSourceType"] == VOCABULARY + "compositeWithTrainedAlgorithmicMedia" and edited["when"]
    heard = FileRecord.of(speech).sha256
    clip, recording = manifest["ingredients"]
    assert clip["relationship"] == "parentOf" and SOURCE_SHA256 in clip["description"]
    assert (recording["title"], recording["relationship"]) == (speech.name, "inputTo")
    assert heard in recording["description"] and str(tmp_path) not in json.dumps(manifest)
    assert data["talkinghead.provenance"] == {
        "consent": CONSENT,
        "source": {"sha256": SOURCE_SHA256},
        "recordings": [{"name": speech.name, "sha256": heard}],
    }
    assert f'DigitalSourceType="{VOCABULARY}compositeWithTrainedAlgorithmicMedia"' in xmp_by_ffprobe(
        tmp_path / "out.mp4"
    )


def test_a_person_that_is_generated_as_a_whole(avatar: Avatar, speech: Path, tmp_path: Path) -> None:
    run(avatar, speech, tmp_path / "out.mp4", background="plate")
    data = {item["label"]: item["data"] for item in manifest_of(tmp_path / "out.mp4")["assertions"]}
    (created,) = data["c2pa.actions.v2"]["actions"]
    assert (created["action"], created["digitalSourceType"]) == ("c2pa.created", VOCABULARY + "trainedAlgorithmicMedia")
    assert {item["relationship"] for item in manifest_of(tmp_path / "out.mp4")["ingredients"]} == {"inputTo"}


def test_pictures_with_transparency(avatar: Avatar, speech: Path, tmp_path: Path) -> None:
    for name in ("out.mov", "plain/%03d.png", "out/%03d.png"):
        options = {"mark": False} if name.startswith("plain") else {}
        run(avatar, speech, tmp_path / name, background="alpha", **options)
    assert manifest_of(tmp_path / "out.mov")["ingredients"]
    assert xmp_by_ffprobe(tmp_path / "out.mov")
    pictures = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in pictures] == [path.name for path in sorted((tmp_path / "plain").iterdir())]
    for picture in pictures:
        assert manifest_of(picture)["ingredients"]
        plain = cv2.imread(str(tmp_path / "plain" / picture.name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(cv2.imread(str(picture), cv2.IMREAD_UNCHANGED), plain)
    shown = facts(pictures[0])
    assert shown["signature"].startswith("valid") and shown["IPTC source type"].startswith("trainedAlgorithmicMedia")


def test_webm_bears_tags_alone(avatar: Avatar, speech: Path, tmp_path: Path) -> None:
    (note,) = run(avatar, speech, tmp_path / "out.webm", background="alpha")
    assert note.startswith("WebM has no place for a C2PA manifest")
    run(avatar, speech, tmp_path / "plain.webm", background="alpha", mark=False)
    assert packets(tmp_path / "out.webm") == packets(tmp_path / "plain.webm")
    command = ["ffprobe", "-v", "error", "-show_entries", "format_tags", "-of", "json", str(tmp_path / "out.webm")]
    tags = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["format"]["tags"]
    assert tags["DIGITALSOURCETYPE"] == VOCABULARY + "trainedAlgorithmicMedia"
    shown = facts(tmp_path / "out.webm")
    assert shown["signature"] == "none" and "trainedAlgorithmicMedia, by talkinghead" in shown["IPTC source type"]
    assert facts(tmp_path / "plain.webm")["signature"] == "no mark"


# What info says


def test_info(marked: Path) -> None:
    shown = facts(marked)
    assert shown["made by"] == f"talkinghead {__version__}"
    assert shown["action"] == "c2pa.edited compositeWithTrainedAlgorithmicMedia 2026-01-02T03:04:05+00:00"
    assert shown["consent"] == CONSENT and shown["says"] == "ü & <co>.wav (SHA-256 aaaaaaaaaaaa)"
    assert shown["made of"] == "a clip with SHA-256 555555555555"
    assert shown["signature"].startswith("valid, with a certificate of talkinghead test certificate, which is on no")
    assert shown["IPTC source type"] == (
        f"compositeWithTrainedAlgorithmicMedia, by talkinghead {__version__} 2026-01-02T03:04:05+00:00"
    )


def test_info_of_a_video_that_nobody_marked(tmp_path: Path) -> None:
    shown = facts(made_video(tmp_path))
    assert shown["signature"] == "no mark" and "IPTC source type" not in shown


def test_another_programs_statement_cannot_command_the_terminal(tmp_path: Path, signer: Credentials) -> None:
    path = made_video(tmp_path)
    mark_video(path, replace(STATEMENT, consent="\x1b[2J\nsignature  valid", recordings=()), signer)
    assert facts(path)["consent"] == "?[2J?signature  valid"


# Whether it holds


@pytest.mark.parametrize("algorithm", KEYS)
def test_the_users_certificate(algorithm: str, tmp_path: Path) -> None:
    private = KEYS[algorithm]()
    (tmp_path / "chain.pem").write_bytes(issued(private))
    (tmp_path / "key.pem").write_bytes(pem_of(private))
    path = made_video(tmp_path)
    mark_video(path, STATEMENT, credentials(tmp_path / "chain.pem", tmp_path / "key.pem"))
    assert manifest_of(path)["signature_info"]["common_name"] == "Studio Ü"
    assert facts(path)["signature"].startswith("valid, with a certificate of Studio Ü, Studio")


def test_nothing_but_trust_is_missing(marked: Path, signer: Credentials) -> None:
    anchors = signer.chain[signer.chain.rindex(b"-----BEGIN") :].decode()
    found = report(marked, {"trust": {"trust_anchors": anchors}})
    assert found["validation_state"] == "Trusted" and not found.get("validation_status")


def test_every_part_is_bound(marked: Path, tmp_path: Path) -> None:
    """A byte is changed in every box, and in the media at many places."""
    changed, content = tmp_path / "changed.mp4", marked.read_bytes()
    with marked.open("rb") as file:
        boxes = {box.uuid or box.kind: box for box in top_level_boxes(file)}
    media = boxes[b"mdat"]
    assert set(boxes) == {b"ftyp", C2PA_UUID, b"moov", XMP_UUID, b"free", b"mdat"}
    inside = {name: boxes[name].stop - 9 for name in (C2PA_UUID, b"moov", XMP_UUID)}
    places = [*inside.values(), *range(media.start + 8, media.stop, media.size // 20), media.stop - 1]
    for place in places:
        changed.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        if boxes[C2PA_UUID].start < place < boxes[C2PA_UUID].stop:
            with pytest.raises(AssertionError):
                manifest_of(changed)
        else:
            assert report(changed)["validation_state"] == "Invalid", place
    shown = facts(changed)
    assert shown["signature"].startswith("NOT VALID, changed after it was signed by") and "hash" in shown["signature"]
    changed.write_bytes(content + b"\0\0\0\x0cfreeMORE")
    assert report(changed)["validation_state"] == "Invalid"


def test_a_manifest_that_was_cut_out(marked: Path, tmp_path: Path) -> None:
    content, cut = marked.read_bytes(), tmp_path / "cut.mp4"
    with marked.open("rb") as file:
        box = next(box for box in top_level_boxes(file) if box.uuid == C2PA_UUID)
    cut.write_bytes(content[: box.start + 4] + b"free" + content[box.start + 8 :])  # it still plays
    with pytest.raises(c2pa.C2paError.ManifestNotFound):
        report(cut)
    assert facts(cut)["signature"].startswith("MISSING") and packets(cut) == packets(marked)


def test_a_manifest_of_another_video(marked: Path, tmp_path: Path, signer: Credentials) -> None:
    with VideoWriter(tmp_path / "other.mp4", 64, 48, Fraction(25)) as writer:
        for _ in range(25):
            writer.write(np.full((48, 64, 3), 200, np.uint8))
    mark_video(tmp_path / "other.mp4", STATEMENT, signer)
    mine, other = marked.read_bytes(), (tmp_path / "other.mp4").read_bytes()
    start = mine.index(C2PA_UUID) - 8
    size = int.from_bytes(mine[start : start + 4], "big")
    (tmp_path / "other.mp4").write_bytes(other[:start] + mine[start : start + size] + other[start + size :])
    assert report(tmp_path / "other.mp4")["validation_state"] == "Invalid"


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_manifest_is_a_fact_and_no_crash(marked: Path, tmp_path: Path, seed: int) -> None:
    content = bytearray(marked.read_bytes())
    start = content.index(C2PA_UUID)
    size = int.from_bytes(content[start - 8 : start - 4], "big")
    rng = np.random.default_rng(seed)
    for place in rng.integers(start + 16, start - 8 + size, 10):
        content[place] = rng.integers(256)
    (tmp_path / "damaged.mp4").write_bytes(content)
    assert facts(tmp_path / "damaged.mp4")["signature"].split()[0] in ("NOT", "not", "MISSING:")


# What stays as it is


def test_media_layout_and_marks_of_before(marked: Path, tmp_path: Path, signer: Credentials) -> None:
    plain = made_video(tmp_path)
    assert packets(plain) == packets(marked)
    assert kinds(marked).index(b"moov") < kinds(marked).index(b"mdat"), "it still starts playing while it is loaded"
    again = tmp_path / "again.mp4"
    again.write_bytes(marked.read_bytes())
    mark_video(again, replace(STATEMENT, consent=""), signer)
    assert packets(again) == packets(marked) and kinds(again) == kinds(marked)
    assert facts(again)["consent"] == "none is recorded"
    manifest_of(again)


def test_memory_does_not_grow_with_the_video(tmp_path: Path, signer: Credentials) -> None:
    path = made_video(tmp_path)
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write((100 << 20).to_bytes(4, "big") + b"mdat")
        file.truncate(file.tell() - 8 + (100 << 20))
    tracemalloc.start()
    try:
        mark_video(path, STATEMENT, signer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    manifest_of(path)


# When it cannot be done


def test_a_video_that_cannot_be_marked_is_not_written(
    avatar: Avatar, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> bytes:
        raise OSError(28, "No space left on device")

    (tmp_path / "out.mp4").write_bytes(b"earlier")
    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr("talkinghead.content_credentials.with_boxes", full)
    with pytest.raises(MarkError, match="so it is not written: No space left on device"):
        run(avatar, speech, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not (avatar.path / LOG_NAME).exists()


@pytest.mark.parametrize("name", ["out.mp4", "out/%d.png"])
def test_whatever_finishing_raises_leaves_nothing(
    avatar: Avatar, speech: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    before = sorted(path.name for path in tmp_path.iterdir())
    monkeypatch.setattr("talkinghead.provenance.mark_video", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(avatar, speech, tmp_path / name, background="alpha" if name.endswith("png") else "source")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_certificate_that_the_library_refuses_is_told_before_the_work(
    avatar: Avatar, speech: Path, tmp_path: Path
) -> None:
    """One without the extended key usage that C2PA asks for; and a wrong key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    private = KEYS["es256"]()
    issuer = KEYS["es256"]()
    good = x509.load_pem_x509_certificate(issued(private))
    name = x509.Name.from_rfc4514_string("CN=Nobody")
    bare = x509.CertificateBuilder(
        name, name, private.public_key(), 1, good.not_valid_before_utc, good.not_valid_after_utc
    )
    (tmp_path / "bare.pem").write_bytes(bare.sign(issuer, hashes.SHA256()).public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(pem_of(private))
    (tmp_path / "wrong.pem").write_bytes(pem_of(issuer))
    for key, error in (("key.pem", MarkError), ("wrong.pem", CertificateError)):
        job = speak(
            avatar, speech, tmp_path / "out.mp4",
            SpeakConfig(certificate=tmp_path / "bare.pem", key=tmp_path / key),
        )  # fmt: skip
        with pytest.raises(error) as raised:
            next(job)
        assert "\n" not in str(raised.value)


# Without a mark, and the log


def log_of(avatar: Avatar) -> list[dict[str, object]]:
    return [json.loads(line) for line in (avatar.path / LOG_NAME).read_text(encoding="utf-8").splitlines()]


def test_no_mark_leaves_nothing_but_a_line_in_the_log(avatar: Avatar, speech: Path, tmp_path: Path) -> None:
    run(avatar, speech, tmp_path / "signed.mp4")
    assert run(avatar, speech, tmp_path / "plain.mp4", mark=False) == ()
    assert C2PA_UUID not in kinds(tmp_path / "plain.mp4") and not xmp_by_ffprobe(tmp_path / "plain.mp4")
    assert packets(tmp_path / "plain.mp4") == packets(tmp_path / "signed.mp4")
    expected = {"audio": [FileRecord.of(speech).sha256]}
    lines = log_of(avatar)
    assert all(line.pop("time").endswith("+00:00") for line in lines)
    assert lines == [
        expected | {"output": "signed.mp4", "marked": True},
        expected | {"output": "plain.mp4", "marked": False},
    ]
    load_avatar(avatar.path)


def test_a_log_that_cannot_be_written(avatar: Avatar, speech: Path, tmp_path: Path) -> None:
    (avatar.path / LOG_NAME).mkdir()
    (note,) = run(avatar, speech, tmp_path / "signed.mp4")
    assert "log lacks this video" in note and (tmp_path / "signed.mp4").exists()
    with pytest.raises(MarkError, match=r"has to be recorded, and .*log\.jsonl cannot be written: .*; leave --no-mark"):
        next(speak(avatar, speech, tmp_path / "plain.mp4", SpeakConfig(mark=False)))


def test_a_log_that_becomes_unwritable_while_the_video_is_made(avatar: Avatar, speech: Path, tmp_path: Path) -> None:
    job = speak(avatar, speech, tmp_path / "plain.mp4", SpeakConfig(mark=False))
    next(job)
    (avatar.path / LOG_NAME).unlink()
    (avatar.path / LOG_NAME).mkdir()
    with pytest.raises(MarkError, match="has to be recorded"):
        list(job)
    assert not (tmp_path / "plain.mp4").exists() and not list(tmp_path.glob(".unfinished*"))


def test_speech_that_vanishes_while_it_is_said(avatar: Avatar, speech: Path, tmp_path: Path) -> None:
    job = speak(avatar, speech, tmp_path / "out.mp4", SpeakConfig())
    while (event := next(job)).done < event.total:
        pass
    speech.unlink()
    with pytest.raises(MarkError, match="cannot be read any more"):
        next(job)
    assert not (tmp_path / "out.mp4").exists()


# At the command line


class Terminal(io.StringIO):
    """Standard input at which somebody sits."""

    def isatty(self) -> bool:
        return True


def saving_fit(video: Path, output: Path, config: FitConfig) -> Iterator[Progress]:
    """Stands for the real fit: leaves a tiny avatar with the statement that it was given."""
    yield Progress("fitting", 1, 1)
    tiny = save_tiny_avatar(output.parent)
    stating = replace(tiny, manifest=replace(tiny.manifest, consent=config.consent))
    save_avatar(stating, output.parent / "tiny-source.mp4", output)


@pytest.mark.parametrize(
    ("typed", "options", "consent", "is_asked"),
    [
        ("Zoë, agreed \n", [], "Zoë, agreed", True),
        ("\n", [], "", True),
        ("", [], "", True),  # Ctrl-D
        ("unread\n", ["--consent", "On paper"], "On paper", False),
        (None, [], "", False),
    ],
)
def test_fit_asks_for_consent_once_and_only_at_a_terminal(
    typed: str | None,
    options: list[str],
    consent: str,
    is_asked: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("talkinghead.fit.fit", saving_fit)
    monkeypatch.setattr("sys.stdin", io.StringIO("no terminal\n") if typed is None else Terminal(typed))
    assert main(["fit", str(ASSETS / "demo_clip.mp4"), "-o", str(tmp_path / "new.avatar"), *options]) == 0
    shown = capsys.readouterr().err
    assert shown.count("did they agree?") == is_asked and ("no statement that" in shown) == (not consent)
    assert facts(tmp_path / "new.avatar")["consent"] == (consent or "none is recorded")


def test_consent_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for statement in ("two\nlines", "x" * 501, "\x1b[2J"):
        assert main(["fit", "clip.mp4", "-o", str(tmp_path / "new.avatar"), "--consent", statement]) == 2
        assert "one line of at most 500 characters" in capsys.readouterr().err


def test_the_test_certificate_is_mentioned(
    avatar: Avatar, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in (CERTIFICATE_VARIABLE, KEY_VARIABLE):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (before,) = [finding for finding in diagnose() if finding.name == "certificate"]
    assert before.ok and "is made when" in before.detail and not (tmp_path / "cache").exists()
    assert main(["speak", str(avatar.path), str(speech), "-o", str(tmp_path / "out.mp4")]) == 0
    assert "note: the video is signed with a test certificate of this machine" in capsys.readouterr().err
    manifest_of(tmp_path / "out.mp4")
    (after,) = [finding for finding in diagnose() if finding.name == "certificate"]
    assert after.ok and after.detail.startswith("talkinghead test certificate, valid until")


def test_a_wrong_certificate_is_told_before_anything_is_loaded(
    tmp_path: Path, speech: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "nowhere.pem"))
    assert main(["speak", "no.avatar", str(speech), "-o", str(tmp_path / "out.mp4")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("talkinghead: ") and "nowhere.pem cannot be read" in line
    (finding,) = [finding for finding in diagnose() if finding.name == "certificate"]
    assert not finding.ok and finding.remedy
