"""The voices of the training speech: what each speaks, how much, its licence, and which are never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from encoders.corpus.phone_maps import PhoneSet

Engine = Literal["espeak-ng", "flite", "festival"]

ENGINE_LICENCES: dict[Engine, str] = {
    "espeak-ng": "GPL-3+",
    "flite": "BSD-like (Carnegie Mellon University)",
    "festival": "MIT-like (University of Edinburgh)",
}
ENGINE_PACKAGES: dict[Engine, str] = {"espeak-ng": "libespeak-ng1", "flite": "libflite1", "festival": "festival"}
"""Engine -> the Debian package whose version names the engine's."""


@dataclass(frozen=True)
class Voice:
    """One voice file of the corpus."""

    engine: Engine
    name: str
    """flite's or festival's voice; espeak-ng's language, spoken by the `variants`."""
    text: str
    """Language of the text, a key of `sentences.LANGUAGES`."""
    minutes: float
    """Speech of the default recipe."""
    phone_set: PhoneSet
    package: str
    """Debian package of the voice."""
    licence: str
    held_out: bool = False
    """Only for figures: neither the voice nor its sentences are ever trained on."""
    variants: tuple[str, ...] = ()
    """espeak-ng's voice variants, drawn by chance for each sentence; "" is the language's own voice."""
    encoding: str = "utf-8"
    """That festival's voice reads."""

    @property
    def file_name(self) -> str:
        """Of the voice's recordings in the corpus folder."""
        role = "held-out" if self.held_out else "training"
        return f"{role}-{self.engine}-{self.name.replace('/', '-')}.safetensors"


HELD_OUT_VARIANTS: tuple[str, ...] = ("f3", "Andrea", "caleb", "Alicia")
VARIANTS: tuple[str, ...] = (
    *[""] * 8,
    "f1", "f2", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "klatt", "klatt2", "klatt3", "klatt4",
    "klatt5", "klatt6", "Alex", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique",
    "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike", "Nguyen", "Storm", "Tweaky", "adam", "anika",
    "announcer", "antonio", "aunty", "belinda", "benjamin", "boris", "david", "ed", "edward", "edward2", "grandma",
    "grandpa", "gustave", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta", "linda", "marcelo", "max",
    "michel", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph",
    "steph2", "steph3", "travis", "victor", "zac",
)  # fmt: skip
"""Variants of the training voices: not those held out, nor those that whisper, croak, echo or imitate machines."""


def _espeak(language: str, text: str, minutes: float, held_out: bool = False) -> Voice:
    variants = HELD_OUT_VARIANTS if held_out else VARIANTS
    return Voice(
        "espeak-ng", language, text, minutes, "ipa", "espeak-ng-data", ENGINE_LICENCES["espeak-ng"], held_out, variants
    )


def _flite(name: str, minutes: float, held_out: bool = False) -> Voice:
    return Voice("flite", name, "en", minutes, "american", "libflite1", ENGINE_LICENCES["flite"], held_out)


_LATIN_1, _LATIN_2 = "iso8859-1", "iso8859-2"
_FESTVOX, _GPL_2, _GPL_3, _LGPL = "Festvox (MIT-like)", "GPL-2+", "GPL-3+", "LGPL-2.1+"

VOICES: tuple[Voice, ...] = (
    _flite("rms", 12, held_out=True),
    Voice("festival", "czech_dita", "cs", 12, "czech", "festvox-czech-dita", _GPL_3, True, encoding=_LATIN_2),
    _espeak("pl", "pl", 5, held_out=True),
    _espeak("en-us", "en", 5, held_out=True),
    _espeak("de", "de", 5, held_out=True),
    _flite("slt", 40),
    _flite("awb", 40),
    _flite("kal16", 15),
    _flite("kal", 8),
    Voice("festival", "ked_diphone", "en", 22, "american", "festvox-kdlpc16k", _FESTVOX),
    Voice("festival", "kal_diphone", "en", 15, "american", "festvox-kallpc16k", _FESTVOX),
    Voice("festival", "cmu_us_slt_arctic_hts", "en", 22, "american", "festvox-us-slt-hts", "BSD-3-clause, EST"),
    Voice("festival", "lp_diphone", "it", 28, "italian", "festvox-italp16k", _GPL_2, encoding=_LATIN_1),
    Voice("festival", "pc_diphone", "it", 28, "italian", "festvox-itapc16k", _GPL_2, encoding=_LATIN_1),
    Voice("festival", "czech_machac", "cs", 28, "czech", "festvox-czech-machac", _GPL_3, encoding=_LATIN_2),
    Voice("festival", "czech_krb", "cs", 28, "czech", "festvox-czech-krb", _GPL_3, encoding=_LATIN_2),
    Voice("festival", "czech_ph", "cs", 28, "czech", "festvox-czech-ph", _GPL_2, encoding=_LATIN_2),
    Voice("festival", "msu_ru_nsh_clunits", "ru", 40, "russian", "festvox-ru", "BSD-like"),
    Voice("festival", "suo_fi_lj_diphone", "fi", 26, "finnish", "festvox-suopuhe-lj", "LGPL-2+", encoding=_LATIN_1),
    Voice("festival", "hy_fi_mv_diphone", "fi", 26, "finnish", "festvox-suopuhe-mv", "LGPL-2+", encoding=_LATIN_1),
    Voice("festival", "upc_ca_ona_hts", "ca", 28, "catalan", "festvox-ca-ona-hts", _LGPL),
    Voice("festival", "hindi_NSK_diphone", "hi", 12, "indian", "festvox-hi-nsk", _GPL_2),
    Voice("festival", "marathi_NSK_diphone", "mr", 12, "indian", "festvox-mr-nsk", _GPL_2),
    Voice("festival", "telugu_NSK_diphone", "te", 18, "indian", "festvox-te-nsk", _GPL_2),
    _espeak("en-us", "en", 18),
    _espeak("gmw/en", "en", 10),
    _espeak("en-gb-scotland", "en", 6),
    _espeak("en-gb-x-rp", "en", 8),
    _espeak("en-gb-x-gbclan", "en", 4),
    _espeak("en-029", "en", 4),
    _espeak("de", "de", 20),
    _espeak("roa/fr", "fr", 12),
    _espeak("fr-be", "fr", 4),
    _espeak("es", "es", 10),
    _espeak("es-419", "es", 6),
    _espeak("it", "it", 10),
    _espeak("pt-br", "pt", 8),
    _espeak("roa/pt", "pt", 6),
    _espeak("ca", "ca", 6),
    _espeak("ro", "ro", 5),
    _espeak("nl", "nl", 8),
    _espeak("af", "nl", 4),
    _espeak("sv", "sv", 6),
    _espeak("nb", "nb", 6),
    _espeak("ru", "ru", 10),
    _espeak("uk", "ru", 4),
    _espeak("bg", "ru", 4),
    _espeak("cs", "cs", 6),
    _espeak("sk", "cs", 4),
    _espeak("hr", "hr", 5),
    _espeak("fi", "fi", 6),
    _espeak("et", "fi", 4),
    _espeak("tr", "tr", 6),
    _espeak("el", "el", 5),
    _espeak("ar", "ar", 6),
    _espeak("fa", "fa", 4),
    _espeak("hi", "hi", 6),
    _espeak("te", "te", 4),
    _espeak("id", "id", 6),
    _espeak("vi", "vi", 5),
    _espeak("ja", "ja", 6),
    _espeak("cmn-latn-pinyin", "zh", 8),
)
"""Everything the shipped encoder is trained and measured on."""
