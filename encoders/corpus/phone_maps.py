"""Phone symbols of the synthesisers -> the 38 phones of `encoders.phones`.

One sound gets one phone whichever engine and language it comes from; where a language's symbol and its sound differ
(the short vowels of festival's Czech, the reduced ones of its Russian), the sound counts. An affricate is its closure
followed by its friction, a diphthong its longer first and its shorter second target, palatalised consonants are the
plain ones, every tap and trill is an r and every uvular friction an x. A glottal stop has no place on the lips and
belongs to the sound after it.
"""

# Letters of the phonetic alphabet look like others.
# ruff: noqa: RUF001, RUF003

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import Literal

from encoders.phones import PHONES

PhoneSet = Literal["ipa", "american", "italian", "czech", "russian", "finnish", "catalan", "indian"]
"""Names of the symbol sets: espeak-ng's IPA, flite's and festival's English, and festival's other languages."""

SILENT = "sil"

_VOWELS = frozenset(PHONES[PHONES.index("i") :])
# Medians over the voices, of the time from the fall of 0.5-3 kHz to the rise of 4-7.8 kHz.
_VOICELESS_AFFRICATE_CLOSURE, _VOICED_AFFRICATE_CLOSURE = 0.38, 0.5
_GLIDE = 0.3
_DIPHTHONG_ONSET = 0.6
_VOWEL_BEFORE_CONSONANT = 0.6


def phones_of(phone_set: PhoneSet, symbol: str, language: str = "") -> tuple[str, ...] | None:
    """The phones of an engine's symbol, in order.

    Args:
        phone_set: whose symbol it is.
        symbol: as the engine writes it; "" is silence.
        language: espeak-ng's language code, where the sound of an IPA symbol depends on it.

    Returns:
        None for a symbol without a map; an empty tuple for one that belongs to the sound after it.
    """
    if symbol == "":
        return (SILENT,)
    if phone_set == "ipa":
        return _ipa_phones(symbol, language.rpartition("/")[2].split("-")[0])
    return FESTIVAL_MAPS[phone_set].get(symbol)


def shares(phones: tuple[str, ...]) -> tuple[float, ...]:
    """What part of a symbol's duration each of its phones takes; the sum is 1."""
    if len(phones) == 1:
        return (1.0,)
    head = phones[0]
    if head == "t":
        first = _VOICELESS_AFFRICATE_CLOSURE
    elif head == "d":
        first = _VOICED_AFFRICATE_CLOSURE
    elif head in ("j", "w"):
        first = _GLIDE
    elif head in _VOWELS and phones[1] not in _VOWELS:
        first = _VOWEL_BEFORE_CONSONANT
    elif head in _VOWELS:
        first = _DIPHTHONG_ONSET
    else:
        first = 1.0 / len(phones)
    return (first, *((1.0 - first) * share for share in shares(phones[1:])))


def _spelled(text: str) -> dict[str, tuple[str, ...]]:
    """`symbol=phone+phone ...`; a symbol without `=` is the phone of that name."""
    entries = (entry.partition("=") for entry in text.split())
    return {symbol: tuple((phones or symbol).split("+")) for symbol, _, phones in entries}


_IPA: Mapping[str, tuple[str, ...]] = _spelled(
    # stops, affricate parts and nasals
    "p b t d k g ɡ=g ʈ=t ɖ=d ɗ=d ɓ=b c=k ɟ=g q=k ɢ=g m n ɱ=m ɲ=n ɳ=n ŋ=ng ɴ=ng "
    # fricatives; ç, ɣ, χ, ʁ are friction behind the teeth with neutral lips
    "f v ɸ=f β=v ʋ=v θ=th ð=th s z ʃ=sh ʒ=sh ʂ=sh ʐ=sh ɕ=sh ʑ=sh ɧ=sh x ç=x ɣ=x χ=x ʁ=x ʝ=j h ɦ=h ħ=h ʕ=h "
    # approximants and trills
    "l ɫ=l ɭ=l ʎ=l ɬ=l r ɹ=r ɾ=r ɻ=r ɽ=r ʀ=x j w ʍ=w ɥ=y ɰ=x "
    # vowels
    "i ɪ=I ɨ=I ᵻ=I e ɛ=E æ=ae a ɐ=V ʌ=V ɑ=A ɒ=O ɔ=O o u ʊ=U ʉ=u ɯ=@ ɤ=V y ʏ=y ø=oe œ=oe ɵ=@ ə=@ ɘ=@ ɜ=3 ɚ=3 ɝ=3"
)

_IPA_BY_LANGUAGE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "en": _spelled("ɾ=d"),  # the flap of "better"; festival and flite call it by its letter
    "de": _spelled("ɜ=V ɛ=e"),  # ɜ: the open schwa of "er"
    "nl": _spelled("ɛ=e"),
    "af": _spelled("ɛ=e"),
    "es": _spelled("ɛ=e o=O"),
    "it": _spelled("ɪ=i ʊ=u"),
    "pt": _spelled("y=i æ=V"),
    "cs": _spelled("c=t+j ɟ=d+j e=E o=O i=I iː=i"),
    "sk": _spelled("c=t+j ɟ=d+j e=E o=O i=I iː=i"),
    "hr": _spelled("æ=a"),
    "ru": _spelled("y=I"),
    "uk": _spelled("y=I"),
    "bg": _spelled("y=I"),
    "fi": _spelled("a=A"),
    "et": _spelled("a=A"),
    "sv": _spelled("sx=sh"),
    "hi": _spelled("c=t+sh ɟ=d+sh"),
    "mr": _spelled("c=t+sh ɟ=d+sh"),
    "te": _spelled("c=t+sh ɟ=d+sh"),
    "id": _spelled("c=t+sh ɟ=d+sh"),
    "fa": _spelled("a=ae"),
    "vi": _spelled("y=@"),
    "ja": _spelled("ɯ=u"),
    "cmn": _spelled("i.=I ts.=t+sh ts.h=t+sh s.=sh"),
}
"""First part of the language code -> symbols that sound otherwise there."""

_MARKED_LETTERS: Mapping[str, tuple[str, ...]] = _spelled("ɑ̃=O ɔ̃=o ɛ̃=V œ̃=V r̝=r+sh")
"""Letters whose mark is more than a shade: the nasal vowels of French, the r of Czech."""
_IPA_WITHOUT_SOUND = frozenset({"1", "ʔ", "ʲ"})


@cache
def _ipa_phones(symbol: str, language: str) -> tuple[str, ...] | None:
    if symbol.startswith("("):  # "(en)", "(de)": espeak-ng switches its dictionary
        return ()
    own = _IPA_BY_LANGUAGE.get(language, {})
    if symbol in own:
        return own[symbol]
    for marked, phones in _MARKED_LETTERS.items():
        if symbol.startswith(marked):
            return phones
    # Decomposed, so that marks part from their letters; but ç is a letter here.
    text = unicodedata.normalize("NFD", symbol).replace("c\u0327", "ç")
    phones: list[str] = []
    for position, letter in enumerate(text):
        if letter == "h" and position > 0:  # aspiration
            continue
        if letter in _IPA_WITHOUT_SOUND or unicodedata.category(letter) in ("Mn", "Lm", "Sk", "Nd", "Po", "Pd", "Sm"):
            continue
        found = own.get(letter) or _IPA.get(letter)
        if found is None:
            return None
        phones += [phone for phone in found if not phones or phone != phones[-1]]
    return tuple(phones)


_PLAIN = "p b m f v t d n l r s z k g h j w "
FESTIVAL_MAPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "american": _spelled(
        "p b m f v th dh=th t d dx=d n nx=n en=n l el=l r s z sh zh=sh ch=t+sh jh=d+sh k g ng em=m hh=h hv=h y=j w "
        "iy=i ih=I eh=E ey=e+I ae aa=A ao=O ow=o+U uh=U uw=u ah=V ax=@ axr=3 er=3 ay=a+I aw=a+U oy=O+I "
        "pau=sil h#=sil brth=sil ssil=sil"
    ),
    "italian": _spelled(
        _PLAIN + "ng nf=m S=sh Z=sh ts=t+s dz=d+z tS=t+sh dZ=d+sh J=n L=l i e E a o O u "
        "i1=i e1=e E1=E a1=a o1=o O1=O u1=u #=sil"
    ),
    "czech": _spelled(
        _PLAIN + "c=t+s c~=t+sh ch=x d~=d+j t~=t+j n~=n n*=ng dz=d+z dz~=d+sh r~=r+sh r~*=r+sh s~=sh z~=sh "
        "i=I i:=i e=E e:=E a a:=a o=O o:=O u u:=u #=sil _=sil"
    ),
    "russian": _spelled(
        "p b m f v t d n l r s z k g pp=p bb=b mm=m ff=f vv=v tt=t dd=d nn=n ll=l rr=r ss=s zz=z kk=k gg=g h=x hh=x j "
        "sh sch=sh zh=sh c=t+s ch=t+sh ii=i i=I yy=I y=I ee=e e=I aa=a a=V ae=I ay=@ ur=U oo=o o=V uu=u u=U pau=sil"
    ),
    "finnish": _spelled(
        _PLAIN + "S=sh Z=sh N=ng N:=ng T=th D=th L=l a=A a:=A e e:=e i i:=i o o:=o u u:=u y y:=y @=ae @:=ae 7=oe 7:=oe "
        "&=@ p:=p t:=t k:=k b:=b d:=d g:=g f:=f s:=s h:=h v:=v m:=m n:=n l:=l r:=r j:=j #=sil ##=sil"
    ),
    "catalan": _spelled(
        _PLAIN + "rr=r J=n L=l S=sh Z=sh x ax=V a a1=a e e1=e E E1=E i i1=i o o1=o O O1=O u u1=u y=j "
        "pau=sil _=sil #=sil"
    ),
    "indian": _spelled(
        # a is the inherent vowel; T D N L are retroflex, th dh dental stops
        "p b bh=b m f v t=t td=t T=t tth=t th=t D=d ddh=d dh=d n N=n l L=l r R=r s sh zh=sh ksh=k+sh sri=sh+r "
        "k kh=k g gh=g ch=t+sh j=d+sh x=x h y=j w=v @=@ "
        "a=V aa=a ih=I iy=i uh=U uw=u eh=e ee=e ay=a+I oh=o oo=o aw=a+U pau=sil"
    ),
}
"""Symbol set -> symbols, by their phone sets in /usr/share/festival and /usr/share/doc/flite."""
