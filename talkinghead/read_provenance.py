"""What a video says of where it comes from, in lines for `talkinghead info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from talkinghead.content_credentials import ContentCredentials, read_content_credentials
from talkinghead.errors import MarkError
from talkinghead.provenance import FACTS_LABEL, GENERATOR
from tools.bmff import is_bmff
from tools.source_type import SourceType, is_png, read_source_type

NO_CONSENT = "none is recorded"
LONGEST_TEXT = 600
"""Characters that are shown of anything that a stranger's file says of itself."""
_SHOWN_DIGITS = 12

Facts = Iterator[tuple[str, str]]


def provenance_facts(path: Path) -> Facts:
    """Name and value of each fact: who made the file, when, of what, with whose consent, and whether that is signed.

    Raises:
        UserError: the file cannot be opened.
        OSError: it cannot be read.
    """
    source_type = read_source_type(path)
    format_name = "video/mp4" if is_bmff(path) else "image/png" if is_png(path) else None
    found = None
    try:
        if format_name is not None:
            found = read_content_credentials(path, format_name)
    except MarkError as error:
        yield "signature", _shown(f"not valid: {error}")
    else:
        if found is not None:
            yield from _manifest_facts(found.manifest)
            yield "signature", _shown(_signature(found))
        else:
            yield "signature", _no_signature(source_type, format_name is not None)
    if source_type is not None:
        by = f", by {source_type.creator} {source_type.created}".rstrip() if source_type.creator else ""
        yield "IPTC source type", _shown(source_type.name + by)


def _manifest_facts(manifest: Mapping[str, Any]) -> Facts:
    """What talkinghead writes; of other programs' manifests, the program."""
    makers = manifest.get("claim_generator_info") or [{}]
    yield "made by", _shown(" ".join(str(makers[0].get(name, "")) for name in ("name", "version")))
    data = {assertion["label"]: assertion["data"] for assertion in manifest.get("assertions", [])}
    for action in data.get("c2pa.actions.v2", {}).get("actions", []):
        kind = str(action.get("digitalSourceType", "")).rpartition("/")[2]
        yield "action", _shown(" ".join(filter(None, [action.get("action"), kind, action.get("when")])))
    if FACTS_LABEL in data:
        facts = data[FACTS_LABEL]
        yield "made of", _shown(f"a clip with SHA-256 {facts['source']['sha256'][:_SHOWN_DIGITS]}")
        for recording in facts["recordings"]:
            yield "says", _shown(f"{recording['name']} (SHA-256 {recording['sha256'][:_SHOWN_DIGITS]})")
        yield "consent", _shown(facts["consent"]) or NO_CONSENT


def _signature(found: ContentCredentials) -> str:
    if found.failures:
        return f"NOT VALID, changed after it was signed by {found.signer}: {'; '.join(found.failures)}"
    trust = "on a trust list" if found.is_trusted else "which is on no trust list known here"
    return f"valid, with a certificate of {found.signer}, {trust}"


def _no_signature(source_type: SourceType | None, could_be_signed: bool) -> str:
    if source_type is None:
        return "no mark"
    if could_be_signed and source_type.creator.startswith(GENERATOR):
        return "MISSING: the manifest was taken out, or the video was converted by another program"
    return "none"


def _shown(text: str) -> str:
    """One line without control characters."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:LONGEST_TEXT]
