"""C2PA manifests, which the field calls content credentials: signed into MP4, QuickTime and PNG files, and read back.

The library signs; where a video's bytes are bound, `tools.bmff` hashes them while it copies them once, because the
library would copy them twice and take half a gigabyte. The library's own reader accepts either alike.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from talkinghead.certificates import Credentials
from talkinghead.errors import MarkError
from tools.bmff import C2PA_UUID, UNBOUND, manifest_box, put_manifest, with_boxes
from tools.video_writer import temporary_sibling

Definition = Mapping[str, Any]
"""A manifest as the library's JSON has it."""
UNTRUSTED = "signingCredential.untrusted"
_SETTINGS = {
    "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}
"""Nothing is fetched; what is signed is not read once more, because a video's bytes are not seen by the library."""
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class ContentCredentials:
    """What a file's active manifest says, and whether it holds."""

    manifest: Definition
    signer: str
    """Common name and organisation in the certificate; anybody can write them into their own."""
    is_trusted: bool
    """Whether the certificate is on a trust list."""
    failures: tuple[str, ...]
    """Why it does not hold, in the library's words; empty if it does. Not being on a trust list is none."""


def sign_video(path: Path, definition: Definition, credentials: Credentials, boxes: tuple[bytes, ...] = ()) -> None:
    """Puts a signed manifest and other boxes into an MP4 or QuickTime file, which is replaced when that is done.

    Args:
        boxes: go into the file after the manifest, which binds them too.

    Raises:
        MarkError: the library refuses.
        tools.bmff.BoxError: no whole, unfragmented file.
        OSError: the disk is full.
    """
    temporary = temporary_sibling(path, path.suffix)
    try:
        digest = with_boxes(path, temporary, _manifest_box(definition, bytes(_DIGEST_BYTES), credentials), boxes)
        put_manifest(temporary, _manifest_box(definition, digest, credentials))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sign_picture(path: Path, definition: Definition, credentials: Credentials) -> None:
    """Puts a signed manifest into a PNG file. MarkError, OSError: see `sign_video`."""
    path.write_bytes(_signed(definition, credentials, "image/png", path.read_bytes())[1])


def try_signing(definition: Definition, credentials: Credentials) -> None:
    """Whether the library takes a manifest and a certificate: asked before long work.

    Raises:
        MarkError: it does not.
    """
    _manifest_box(definition, bytes(_DIGEST_BYTES), credentials)


def read_content_credentials(path: Path, format_name: str) -> ContentCredentials | None:
    """Reads and verifies the active manifest of a file; None if it has none.

    Args:
        format_name: MIME type.

    Raises:
        MarkError: what is there cannot be read as a manifest.
    """
    c2pa = _library()
    try:
        with (
            path.open("rb") as file,
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Reader(format_name, file, context=context) as reader,
        ):
            report = json.loads(reader.json())
    except c2pa.C2paError.ManifestNotFound:
        return None
    except (c2pa.C2paError, ValueError) as error:
        raise MarkError(f"the C2PA manifest of {path} cannot be read: {error}") from error
    active = report.get("manifests", {}).get(report.get("active_manifest"), {})
    status = report.get("validation_status", [])
    failures = tuple(item.get("explanation", item["code"]) for item in status if item["code"] != UNTRUSTED)
    signature = active.get("signature_info", {})
    names = [signature[name] for name in ("common_name", "issuer") if signature.get(name)]
    is_trusted = all(item["code"] != UNTRUSTED for item in status)
    return ContentCredentials(active, ", ".join(dict.fromkeys(names)), is_trusted, failures)


def _manifest_box(definition: Definition, digest: bytes, credentials: Credentials) -> bytes:
    """The whole box of an MP4 or QuickTime file with a manifest bound to `digest` [32]; as long for any digest."""
    binding = {
        "name": "jumbf manifest",
        "alg": "sha256",
        "hash": list(digest),
        "exclusions": [
            {"xpath": "/uuid", "data": [{"offset": 8, "value": list(C2PA_UUID)}]},
            *({"xpath": f"/{kind.decode()}"} for kind in sorted(UNBOUND)),
        ],
    }
    bound = {"label": "c2pa.hash.bmff.v3", "created": True, "data": binding}
    definition = {**definition, "assertions": [*definition["assertions"], bound]}
    return manifest_box(_signed(definition, credentials, "c2pa", b"")[0])


def _signed(definition: Definition, credentials: Credentials, format_name: str, content: bytes) -> tuple[bytes, bytes]:
    """A manifest store signed for `content`, and the content with it where the format has a place for it."""
    c2pa = _library()
    signer_info = c2pa.C2paSignerInfo(credentials.algorithm, credentials.chain, credentials.key, None)
    signed = io.BytesIO()
    try:
        with (
            c2pa.Context.from_dict(_SETTINGS) as context,
            c2pa.Signer.from_info(signer_info) as signer,
            c2pa.Builder.from_json(json.dumps(definition), context=context) as builder,
        ):
            if not content:
                builder.set_no_embed()
            store = builder.sign(signer, format_name, io.BytesIO(content), signed)
    except c2pa.C2paError as error:
        raise MarkError(f"the video cannot be marked as made by AI: {error}; try another certificate") from error
    return store, signed.getvalue()


def _library() -> ModuleType:
    """The C2PA library, loaded when it is needed: it takes a tenth of a second.

    Raises:
        MarkError: it cannot be loaded.
    """
    try:
        import c2pa
    except (ImportError, OSError, RuntimeError) as error:
        raise MarkError(
            f"the video cannot be marked as made by AI: c2pa-python cannot be loaded ({error}): install it again, or "
            "leave the mark out with --no-mark"
        ) from error
    return c2pa
