"""The chain of a prompt's block hashes: what two prompts have in common is a common beginning of their chains.

The hash of a block is XXH3 (64 bits) of the prompt from its beginning to the end of that block, so it stands for all before
it too: two chains that are equal at one place are equal at every place before it. `prefix.tree` rests on that. One hasher
that is fed a block at a time and asked after each gives the whole chain in one pass over the bytes.

XXH3 is no cryptographic hash. Whoever makes two prompts collide has a request sent to an endpoint that holds another's
blocks: it is slower there, and answered the same, as the engine compares tokens. What must not meet is kept apart by the
seed.
"""

from __future__ import annotations

from typing import Final

import xxhash

HASH_BYTES: Final = 8
"""Of one block, in a chain."""


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
    hasher = xxhash.xxh3_64(seed=seed)
    update, digest = hasher.update, hasher.digest
    found: list[bytes] = []
    for begin in range(0, min(len(data), most * block_bytes), block_bytes):
        update(data[begin : begin + block_bytes])
        found.append(digest())
    return b"".join(found)
