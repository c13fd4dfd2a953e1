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
MOST_ITEMS = 20
"""Entries of a list that are."""
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
    """What talkinghead writes; of other programs' manifests, the program and what it says it did."""
    maker = next(_items(manifest, "claim_generator_info"), {})
    yield "made by", _text(maker, "name") + " " + _text(maker, "version")
    data = {_text(assertion, "label"): _at(assertion, "data") for assertion in _items(manifest, "assertions")}
    for action in _items(data, "c2pa.actions.v2", "actions"):
        kind = _text(action, "digitalSourceType").rpartition("/")[2]
        yield "action", " ".join(filter(None, [_text(action, "action"), kind, _text(action, "when")]))
    if FACTS_LABEL in data:
        facts = data[FACTS_LABEL]
        yield "made of", f"a clip with SHA-256 {_text(facts, 'source', 'sha256')[:_SHOWN_DIGITS]}"
        for recording in _items(facts, "recordings"):
            yield "says", f"{_text(recording, 'name')} (SHA-256 {_text(recording, 'sha256')[:_SHOWN_DIGITS]})"
        yield "consent", _text(facts, "consent") or NO_CONSENT


def _at(value: Any, *names: str) -> Any:
    """What stands under names within names in a stranger's JSON; None if there is nothing of the kind."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _items(value: Any, *names: str) -> Iterator[Any]:
    """The first entries of a list there, if it is one."""
    found = _at(value, *names)
    return iter(found[:MOST_ITEMS] if isinstance(found, list) else [])


def _text(value: Any, *names: str) -> str:
    """A text there, as it can be shown; empty if it is none."""
    found = _at(value, *names)
    return _shown(found) if isinstance(found, str) else ""


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
