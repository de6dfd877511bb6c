"""WordPiece: lower-cased text to token numbers, and a small vocabulary learned from training texts.

Text is split as BERT's uncased models do it (accents dropped, punctuation apart), each word into the longest known pieces
from the left; pieces inside a word start with "##". Source: Schuster and Nakajima (2012), Devlin et al. (2019).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

PAD, UNKNOWN, CLS, SEP = range(4)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_WORD = re.compile(r"\w+|[^\w\s]")
_BEFORE_MARK = re.compile(r" ([.,;:!?)\]%])")
_AFTER_OPENING = re.compile(r"([(\[]) ")


def split_words(text: str) -> list[str]:
    """Words and punctuation marks of a text, lower case, without accents."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    return _WORD.findall(plain.replace("_", " "))


def learn_vocabulary(texts: list[str], size: int, extra: tuple[str, ...] = ()) -> list[str]:
    """Choose a vocabulary: the special tokens and `extra` ones, every letter that occurs, then the most frequent whole words.

    Whole words come first because a small vocabulary of merged pieces spends most of its places on parts of words, while
    the words of ECG reports are few. Letters make sure that a rare word is spelled rather than lost. The result does not
    depend on the order of the texts.
    """
    counts = Counter(word for text in texts for word in split_words(text))
    letters = Counter(c for word, n in counts.items() for c in word for _ in range(n))
    special = [*SPECIAL, *extra]
    room = max(0, size - len(special))
    alphabet = [c for c, _ in _ranked(letters)][: room // 4]
    pieces = [*alphabet, *(f"##{c}" for c in alphabet if c.isalnum())]
    words = [w for w, _ in _ranked(counts) if w not in set(alphabet)]
    return [*special, *pieces, *words][:size]


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


class WordPiece:
    """Tokenizer over a fixed vocabulary, which must begin with `SPECIAL`."""

    def __init__(self, vocabulary: list[str]) -> None:
        self.vocabulary = vocabulary
        self._number = {piece: i for i, piece in enumerate(vocabulary)}
        self._longest = max(map(len, vocabulary), default=0)
        self._known: dict[str, list[int]] = {}

    def numbers(self, text: str, limit: int) -> list[int]:
        """Token numbers of a text with [CLS] before and [SEP] behind, cut to `limit`."""
        return [CLS, *self.pieces(text, limit - 2), SEP]

    def pieces(self, text: str, limit: int) -> list[int]:
        """Token numbers of a text alone, cut to `limit`."""
        pieces: list[int] = []
        for word in split_words(text):
            if len(pieces) >= limit:
                break
            if word not in self._known:
                self._known[word] = self._split(word)
            pieces += self._known[word]
        return pieces[:limit]

    def number(self, piece: str) -> int | None:
        """Number of a piece of the vocabulary, None if it has none."""
        return self._number.get(piece)

    def text(self, numbers: list[int]) -> str:
        """The text that token numbers stand for: pieces joined to words, marks put where they are written."""
        words = " ".join(self.vocabulary[n] for n in numbers).replace(" ##", "")
        return _AFTER_OPENING.sub(r"\1", _BEFORE_MARK.sub(r"\1", words))

    def _split(self, word: str) -> list[int]:
        pieces, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            end = next((e for e in range(min(len(word), start + self._longest), start, -1) if prefix + word[start:e] in self._number), None)
            if end is None:
                return [UNKNOWN]
            pieces.append(self._number[prefix + word[start:end]])
            start = end
        return pieces
