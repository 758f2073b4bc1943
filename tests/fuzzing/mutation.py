"""Changes of a file's bytes: flips, cuts, repeats, edges of the integers, pieces of other files, known words."""

from __future__ import annotations

import random
import struct

_EDGES = (0, 1, 2, 7, 8, 9, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_LONGEST = 1 << 17


def mutated(content: bytes, others: list[bytes], words: list[bytes], chance: random.Random) -> bytes:
    """One to four changes of `content`."""
    out = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        _change(out, others, words, chance)
    return bytes(out[:_LONGEST])


def _change(out: bytearray, others: list[bytes], words: list[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(out) + 1)
    length = min(len(out) - at, chance.choice((1, 1, 2, 4, 8, 64, 1024)))
    how = chance.randrange(8)
    if how == 0 and at < len(out):
        out[at] ^= 1 << chance.randrange(8)
    elif how == 1:
        out[at : at + length] = chance.randbytes(length)
    elif how == 2:
        del out[at : at + length]
    elif how == 3:
        out[at:at] = out[at : at + length] * chance.choice((1, 2, 50))
    elif how == 4:
        order, size = chance.choice("<>"), chance.choice("BHIQ")
        packed = struct.pack(order + size, chance.choice(_EDGES) % (1 << 8 * struct.calcsize(size)))
        out[at : at + len(packed)] = packed
    elif how == 5 and words:
        word = chance.choice(words)
        out[at : at + chance.choice((0, length, len(word)))] = word
    elif how == 6 and others:
        other = chance.choice(others)
        start = chance.randrange(len(other) + 1)
        out[at:] = other[start:]
    else:
        del out[at:]
