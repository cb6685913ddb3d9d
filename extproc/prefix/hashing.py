"""The chain of a prompt's block hashes: what two prompts have in common is a common beginning of their chains.

The hash of a block stands for all of the prompt from its beginning to that block's end, so two chains that are equal at one
place are equal at every place before it. `prefix.tree` rests on that. How it is made depends on where a block stands, and on
nothing else of the prompt:

- The hash of a full block is the hash before, of the first one the seed, plus a digest of the block and its place
  (`prefix.digests`), 64 bits. So all are made at once, as one by one they cost 0.14 µs each however small they are.
- A last block that is not full is XXH3 (64 bits) of the hash before and of its bytes.
- Blocks that are no whole number of words (8 bytes) are XXH3 of the prompt up to there: one hasher that is fed a block at a
  time and asked after each.

None of it is cryptographic. Whoever makes two prompts collide has a request sent to an endpoint that holds another's
blocks: it is slower there, and answered the same, as the engine compares tokens. What must not meet is kept apart by the
seed, with which the first hash begins and on which so all depend.

Replicas need not agree on any of it. Who reads a snapshot must: `prefix.snapshot.VERSION` goes up when hashes change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import xxhash

from extproc.document import Span, joined
from extproc.prefix import digests, words
from extproc.prefix.digests import WORD_BYTES

HASH_BYTES: Final = 8
"""Of one block, in a chain."""
APART_BYTES: Final = 65_536
"""Of a prompt in pieces, to make one of which takes longer than to hash it in three parts."""


def seed_of(model: str, adapter: str = "", salt: str = "") -> int:
    """Where the chains of a model's prompts begin, 0 to 2^64 − 1: prompts with different seeds have no block in common.

    `model` is the one that serves, `adapter` its LoRA adapter, as an adapter changes what the KV cache holds. `salt` is the
    tenant's (`prompt.salt_of`): vLLM shares no block across salts, so neither does this.
    """
    parts = [part.encode("utf-8", "surrogatepass") for part in (model, adapter, salt)]
    return int(xxhash.xxh3_64_intdigest(b"".join([b"%d:%b" % (len(part), part) for part in parts])))


def block_bytes_of(block_tokens: int, bytes_per_token: float) -> int:
    """Bytes of a prompt that count as a block of so many tokens; 1 or more."""
    return max(1, round(block_tokens * bytes_per_token))


def chain(data: bytes, seed: int, block_bytes: int, most: int) -> bytes:
    """The hashes of a prompt's blocks, first to last, `HASH_BYTES` each; at most `most` of them. b"" for an empty prompt.

    The last block is hashed although it is not full, as upstream's picker does it (`approximateprefix`, which calls the
    share of blocks that match the score): a prompt that comes again whole, as with a retry, matches wholly, and one shorter
    than a block can match at all. A prompt that goes on where another ended never matches that block; it is one entry that
    ages away. An engine keeps full blocks only, so the last block of a match may be one that it has to compute.
    """
    end = min(len(data), most * block_bytes)
    if block_bytes % WORD_BYTES:
        return _one_by_one(data, seed, end, block_bytes)
    return _to_the_end(data, end, block_bytes, seed.to_bytes(HASH_BYTES, "little"), 0)


def chain_of(pieces: Sequence[bytes | Span], seed: int, block_bytes: int, most: int) -> bytes:
    """`chain` of a prompt in pieces, without a copy of the longest when most of the prompt is in that."""
    sizes = [len(piece) for piece in pieces]
    total = sum(sizes)
    if total < APART_BYTES or total > most * block_bytes or block_bytes % WORD_BYTES:
        return chain(joined(pieces), seed, block_bytes, most)
    longest = sizes.index(max(sizes))
    before = sum(sizes[:longest])
    place = -(-before // block_bytes)  # of the first block that is wholly in it
    skipped = place * block_bytes - before
    blocks = (sizes[longest] - skipped) // block_bytes
    if blocks * block_bytes * 2 < total:
        return chain(joined(pieces), seed, block_bytes, most)
    piece = pieces[longest]
    span = piece if isinstance(piece, Span) else Span(piece, 0, len(piece))
    begin = span.begin + skipped
    end = begin + blocks * block_bytes
    found = [seed.to_bytes(HASH_BYTES, "little")]
    if place:
        head = joined([*pieces[:longest], span.upto(skipped)])
        found.append(_made(head, 0, place, block_bytes, found[0], 0))
    found.append(_made(span.data, begin, blocks, block_bytes, found[-1][-HASH_BYTES:], place))
    rest = joined([Span(span.data, end, span.end), *pieces[longest + 1 :]])
    found.append(_to_the_end(rest, len(rest), block_bytes, found[-1][-HASH_BYTES:], place + blocks))
    return b"".join(found[1:])


def _made(data: bytes, begin: int, blocks: int, block_bytes: int, before: bytes, place: int) -> bytes:
    """The hashes of so many full blocks."""
    if words.COMPILED:
        return words.running(data, begin, blocks, block_bytes, before, place)
    return digests.running(data, begin, blocks, block_bytes, before, place)


def _to_the_end(data: bytes, end: int, block_bytes: int, before: bytes, place: int) -> bytes:
    """The hashes of all blocks of `data`, which ends at `end`, with the last one that is not full."""
    full, rest = divmod(end, block_bytes)
    made = _made(data, 0, full, block_bytes, before, place) if full else b""
    if not rest:
        return made
    return made + xxhash.xxh3_64_digest((made[-HASH_BYTES:] or before) + data[end - rest : end])


def _one_by_one(data: bytes, seed: int, end: int, block_bytes: int) -> bytes:
    hasher = xxhash.xxh3_64(seed=seed)
    update, digest = hasher.update, hasher.digest
    found: list[bytes] = []
    for begin in range(0, end, block_bytes):
        update(data[begin : min(end, begin + block_bytes)])
        found.append(digest())
    return b"".join(found)
