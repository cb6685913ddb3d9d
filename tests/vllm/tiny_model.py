"""Write a model that vLLM can serve in a second on a laptop: two Llama layers without weights, one token per byte.

Nothing is downloaded and no library is needed: a model directory is a few JSON files. The weights are left out on
purpose; `vllm serve --load-format dummy` fills them with small random numbers from a fixed seed. What the model says is
therefore noise, but the same noise each time, and everything around it (tokens counted, chunks streamed, cache used) is
as real as with a large model.

    python tests/vllm/tiny_model.py /tmp/tiny
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

CONTEXT_TOKENS = 1024
"""What the model's positions allow: prompt and answer together, at one token per byte."""

_SPECIAL = ("<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_BEGIN_ID, _END_ID = 256, 257

_CHAT_TEMPLATE = (
    "<|begin|>"
    "{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write(directory: Path) -> Path:
    """Fill `directory` (made when missing) and return it; it is what `vllm serve` takes as its model."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in _files().items():
        (directory / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return directory


def _files() -> dict[str, object]:
    return {
        "config.json": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            # vLLM's attention on the CPU wants a head size that is a multiple of 32: 64 over 2 heads.
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "hidden_act": "silu",
            "max_position_embeddings": CONTEXT_TOKENS,
            "vocab_size": 256 + len(_SPECIAL),
            "bos_token_id": _BEGIN_ID,
            "eos_token_id": _END_ID,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "dtype": "bfloat16",
        },
        # Greedy unless a request asks otherwise: the same prompt gets the same answer from every twin.
        "generation_config.json": {"bos_token_id": _BEGIN_ID, "eos_token_id": _END_ID, "temperature": 0.0},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|begin|>",
            "eos_token": "<|end|>",
            "model_max_length": CONTEXT_TOKENS,
            "clean_up_tokenization_spaces": False,
            "chat_template": _CHAT_TEMPLATE,
        },
    }


def _tokenizer() -> dict[str, object]:
    """A byte-level BPE without merges: token n is byte n, so tests can count tokens with `len(text.encode())`."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": 256 + i,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i, token in enumerate(_SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {symbol: byte for byte, symbol in enumerate(_byte_symbols())},
            "merges": [],
        },
    }


def _byte_symbols() -> list[str]:
    """The printable character that stands for each byte in a byte-level BPE file (the table that GPT-2 introduced).

    Bytes that print as themselves do; the others take characters from U+0100 on, in order.
    """
    itself = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte) if byte in itself else chr(next(stand_ins)) for byte in range(256)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("directory", type=Path)
    print(write(parser.parse_args().directory))


if __name__ == "__main__":
    main()
