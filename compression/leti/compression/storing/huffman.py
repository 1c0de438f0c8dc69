"""Canonical Huffman codes: how few bits whole numbers take that are not equally frequent.

"A Method for the Construction of Minimum-Redundancy Codes" (Huffman, 1952), as the last stage of "Deep Compression"
(Han et al., ICLR 2016). Of size alone: before a network runs, its weights are decoded, and its latency stays.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import final

from leti.core.errors import ArtifactError, InvalidInput

LENGTH_BITS = 8
"""Bits of a code's length in the table: all that a decoder needs of a canonical code, beside the symbols."""


@final
@dataclass(frozen=True, slots=True)
class HuffmanCode:
    """The length in bits of each symbol's code; codes are canonical: by length, then by symbol."""

    lengths: Mapping[int, int]

    @classmethod
    def of(cls, symbols: Iterable[int]) -> HuffmanCode:
        """Return the code of least length for symbols as frequent as these; of one symbol alone, a bit each."""
        counts = Counter(symbols)
        if not counts:
            raise InvalidInput("holds none", field="symbols", remedy="give at least one")
        if len(counts) == 1:
            return cls(dict.fromkeys(counts, 1))
        tie = count()
        heap: list[tuple[int, int, tuple[int, ...]]] = [
            (number, next(tie), (symbol,)) for symbol, number in sorted(counts.items())
        ]
        heapq.heapify(heap)
        lengths = dict.fromkeys(counts, 0)
        while len(heap) > 1:
            first, _, left = heapq.heappop(heap)
            second, _, right = heapq.heappop(heap)
            for symbol in left + right:
                lengths[symbol] += 1
            heapq.heappush(heap, (first + second, next(tie), left + right))
        return cls(lengths)

    def codes(self) -> dict[int, str]:
        """Return the code of each symbol, of "0" and "1"."""
        made, code, before = {}, 0, 0
        for symbol, length in sorted(self.lengths.items(), key=lambda item: (item[1], item[0])):
            code <<= length - before
            made[symbol] = format(code, f"0{length}b")
            code, before = code + 1, length
        return made

    def bits(self, symbols: Iterable[int]) -> int:
        """Return how many bits symbols take, without the table."""
        return sum(self.lengths[symbol] * number for symbol, number in Counter(symbols).items())

    def table_bits(self, symbol_bits: int) -> int:
        """Return how many bits the table takes: of each symbol, itself and its length."""
        return len(self.lengths) * (symbol_bits + LENGTH_BITS)

    def encoded(self, symbols: Sequence[int]) -> str:
        """Return symbols one after the other, of "0" and "1"."""
        codes = self.codes()
        return "".join(codes[symbol] for symbol in symbols)

    def decoded(self, encoded: str) -> list[int]:
        """Return the symbols; raise :class:`~leti.core.errors.ArtifactError` where the last is not whole."""
        symbols = {code: symbol for symbol, code in self.codes().items()}
        made, code = [], ""
        for bit in encoded:
            code += bit
            if code in symbols:
                made.append(symbols[code])
                code = ""
        if code:
            raise ArtifactError(f"ends within a symbol: {code!r}", field="encoded")
        return made
