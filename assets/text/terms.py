"""German and Swedish ECG terms in English: a table of our own (terms_de.tsv, terms_sv.tsv), applied longest phrase first.

Words are compared without regard to case and spelling of umlauts ("ueberdrehter", "überdrehter"). The reports of PTB-XL string
statements together without punctuation; the table knows which phrases are statements, and commas are set between them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from assets.scp import STATEMENTS
from assets.text.normalise import normalise
from models.errors import ConfigurationError

LANGUAGES = ("en", "de", "sv")
"""Languages that are recognised; a report in none of them is "unknown"."""

_FOLDER = Path(__file__).parent
_KINDS = "splq"
_ENDINGS = {"de": ("", "e", "er", "es", "en", "em", "n"), "sv": ("", "a", "t", "e", "na", "n")}
_UMLAUTS = {"de": {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "#": "ue", "å": "a"}, "sv": {"ä": "a", "ö": "o", "å": "a", "ü": "u"}}
_BARE = str.maketrans("äöüåß", "aouas")
_TOKEN = re.compile(r"\s+|[vV]\d{1,2}[rR]?(?![^\W\d_])|\d+(?:[.,]\d+)*|(?:[^\W\d_]|#)+|.", re.DOTALL)
_LEADS = frozenset({"i", "ii", "iii", "avr", "avl", "avf", "l", "f", "vr", "vl", "vf"})
_WAVES = frozenset({"p", "q", "r", "s", "t", "u", "j", "qrs", "st", "qt", "pr", "pq", "rs", "qs", "rsr"})
_INSIDE = frozenset("-.")


@dataclass(frozen=True)
class Term:
    """English for a phrase; kind is s (a statement), p (begins a statement), l (a link) or q (follows its statement).

    The full stop of an abbreviated phrase is dropped.
    """

    english: str
    kind: str
    abbreviated: bool = False


def to_english(text: str, language: str) -> tuple[str, float]:
    """Put a report into English, word group by word group.

    Args:
        text: a report as in its source.
        language: "de" or "sv" to translate; any other is taken to be English already.

    Returns:
        The English text (a translation is in lower case, with unknown words as they are) and the coverage: the share of words
        and numbers that were translated, are English, or name leads, waves or SCP codes; 1.0 for a text without words.
    """
    text = normalise(text)
    tokens = _TOKEN.findall(text.lower())
    table = term_table(language) if language in _ENDINGS else {}
    out = _Sentence()
    n_words = n_known = i = 0
    while i < len(tokens):
        length, term = _longest(tokens, i, table, language)
        if term:
            n_here = sum(_is_word(t) for t in tokens[i : i + length])
            n_words, n_known = n_words + n_here, n_known + n_here
            out.add_term(term)
            length += term.abbreviated and tokens[i + length : i + length + 1] == ["."]
        else:
            length = 1
            if _is_word(tokens[i]):
                n_words += 1
                n_known += _is_english(tokens[i])
            out.add_token(tokens[i])
        i += length
    return out.text() if table else text, n_known / n_words if n_words else 1.0


def detect_language(text: str) -> str:
    """The language of a report by the words that only one language has: "en", "de", "sv", or "unknown" without any, and where more
    words are of Spanish, Portuguese, French, Italian, Dutch or Norwegian.
    """
    words = [t for t in _TOKEN.findall(normalise(text).lower()) if _is_word(t)]
    scores = dict.fromkeys(LANGUAGES, 0)
    others = sum(word in _other_signs() for word in words)
    for word in words:
        scores["en"] += word in _english_signs()
        for language in _ENDINGS:
            scores[language] += _fold(word, language) in _foreign_words(language)
    best = max(scores.values())
    if others > best:
        return "unknown"
    # A German or Swedish report may quote English terms; an English one does not quote German.
    return next((x for x in ("de", "sv", "en") if scores[x] == best), "unknown") if best else "unknown"


class _Sentence:
    """English text in the making; sets a comma where one statement follows another."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._complete = False

    def add_term(self, term: Term) -> None:
        if term.kind in "sp":
            self._begin()
        self._parts.append(f" {term.english} ")
        if term.kind != "q":
            self._complete = term.kind == "s"

    def add_token(self, token: str) -> None:
        if token in _WAVES:
            self._begin()
            self._complete = False
        elif token in _LEADS or token[0].isdigit() or (token[0] == "v" and token[1:2].isdigit()):
            self._complete = True
        elif not _is_word(token) and not token.isspace() and token != "-":
            self._complete = False
        self._parts.append(token)

    def _begin(self) -> None:
        if self._complete:
            self._parts.append(", ")
            self._complete = False

    def text(self) -> str:
        text = " ".join("".join(self._parts).split())
        return re.sub(r" +([,.;:)])|(\() +", r"\1\2", text)


def _longest(tokens: list[str], start: int, table: Mapping[tuple[str, ...], Term], language: str) -> tuple[int, Term | None]:
    """The longest phrase of the table that begins at a token: how many tokens it takes, and its term."""
    best: tuple[int, Term | None] = (0, None)
    if tokens[start].isspace() or not table:
        return best
    key: tuple[str, ...] = ()
    for i in range(start, min(len(tokens), start + 3 * _longest_phrase(language))):
        token = tokens[i]
        if token.isspace() or (key and token in _INSIDE):
            continue
        key = (*key, _fold(token, language))
        if key in table:
            best = (i + 1 - start, table[key])
        if len(key) >= _longest_phrase(language):
            break
    return best


@cache
def term_table(language: str) -> Mapping[tuple[str, ...], Term]:
    """The table of a language with all endings and spellings written out: folded tokens -> term.

    Raises:
        ConfigurationError: no such language, or a line of its file is not "phrase, English, kind"; names file and line.
    """
    if language not in _ENDINGS:
        raise ConfigurationError(f"there is no term table for {language!r}; there are {', '.join(_ENDINGS)}")
    path = _FOLDER / f"terms_{language}.tsv"
    table: dict[tuple[str, ...], Term] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 3 or cells[2] not in _KINDS:
            raise ConfigurationError(f"{path}, line {number}: should be phrase, English and one of {', '.join(_KINDS)}, separated by tabs")
        for key in _spellings(cells[0], language):
            # A phrase written out in full takes precedence over one that an ending makes.
            if "~" not in cells[0] or key not in table:
                table[key] = Term(cells[1], cells[2], cells[0].endswith("."))
    return table


def _spellings(phrase: str, language: str) -> Iterator[tuple[str, ...]]:
    words = [t for t in _TOKEN.findall(phrase.replace("~", "\0")) if not t.isspace() and t not in _INSIDE]
    stems: list[list[str]] = []
    for word in words:
        if word == "\0":
            stems[-1] = [stems[-1][0] + ending for ending in _ENDINGS[language]]
        else:
            stems.append([word])
    for chosen in product(*stems):
        yield tuple(_fold(w, language) for w in chosen)
        yield tuple(w.lower().translate(_BARE) for w in chosen)


def _fold(word: str, language: str) -> str:
    return "".join(_UMLAUTS[language].get(c, c) for c in unicodedata.normalize("NFC", word).lower())


@cache
def _longest_phrase(language: str) -> int:
    return max(len(key) for key in term_table(language))


@cache
def _english_words() -> frozenset[str]:
    listed = [w for name in ("english_words", "english_words_chest") for w in (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").split()]
    tables = " ".join(term.english for language in _ENDINGS for term in term_table(language).values())
    codes = " ".join(STATEMENTS).lower()
    return frozenset(listed) | frozenset(re.findall(r"[^\W\d_]+", f"{tables} {codes}"))


@cache
def _english_signs() -> frozenset[str]:
    """Words of English reports that German and Swedish ones do not use."""
    return frozenset((_FOLDER / "english_signs.txt").read_text(encoding="utf-8").split())


@cache
def _other_signs() -> frozenset[str]:
    """Words of reports in languages that are not recognised, none of which English, German or Swedish use."""
    return frozenset((_FOLDER / "other_signs.txt").read_text(encoding="utf-8").split())


@cache
def _foreign_words(language: str) -> frozenset[str]:
    """Words of a language's table that are neither English nor in another table."""
    others = {w for other in _ENDINGS if other != language for key in term_table(other) for w in key}
    own = {w for key in term_table(language) for w in key}
    return frozenset(w for w in own - others if len(w) > 1 and w.isalpha() and w not in _english_words())


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[0] == "#"


def _is_english(token: str) -> bool:
    known = token[0].isdigit() or token in _LEADS or token in _WAVES or (token[0] == "v" and token[1:2].isdigit())
    return known or token in _english_words()
