"""The turns of a conversation, as Anthropic's API takes them.

Turns of one role become one; what has no text is left out, because the API refuses it; and each tool call has its result in the
turn behind it, or the conversation is refused here, with the place named. https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

import re
from typing import Any, Final

from extproc.errors import Untranslatable

Block = dict[str, Any]
_OTHER: Final = re.compile(r"[^a-zA-Z0-9_-]")


def call_id(text: str) -> str:
    """A tool call's id in the letters that both dialects take: the same id always becomes the same."""
    return _OTHER.sub("_", text) if _OTHER.search(text) else text


class Turns:
    """Add the messages in their order; `whole` gives them back."""

    __slots__ = ("_open", "_open_at", "_turns")

    def __init__(self) -> None:
        self._turns: list[dict[str, Any]] = []
        self._open: dict[str, None] = {}
        """Tool calls that have no result yet."""
        self._open_at = ""

    def say(self, role: str, blocks: list[Block], where: str) -> None:
        """A message of a role. Raises Untranslatable when tool calls before it have no result."""
        self._check_paired(where)
        self._append(role, blocks)

    def call(self, identity: str, where: str) -> None:
        """The message that was said last calls a tool."""
        if identity in self._open:
            raise Untranslatable(f"'{where}': two tool calls have one id", param=where)
        self._open[identity] = None
        self._open_at = where

    def result(self, identity: str, block: Block, where: str) -> None:
        """What a tool gave back. Raises Untranslatable when the turn before calls no such tool."""
        if identity not in self._open:
            raise Untranslatable(f"'{where}': expected the id of a tool call of the assistant's turn before it", param=where)
        del self._open[identity]
        self._append("user", [block])

    def whole(self) -> list[dict[str, Any]]:
        """All turns. Raises Untranslatable when there is none, or the last one is the assistant's or lacks results."""
        self._check_paired("messages")
        turns = self._turns
        if not turns:
            raise Untranslatable("'messages': expected at least one message of the user with content", param="messages")
        if turns[-1]["role"] == "assistant":
            raise Untranslatable("'messages': expected the last message to be the user's or a tool's", param="messages")
        for turn in turns:
            content = turn["content"]
            if len(content) == 1 and content[0]["type"] == "text" and len(content[0]) == 2:
                turn["content"] = content[0]["text"]
        return turns

    def _append(self, role: str, blocks: list[Block]) -> None:
        kept = [block for block in blocks if block["type"] != "text" or not _is_blank(block["text"])]
        if not kept:
            return
        turns = self._turns
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += kept
        else:
            turns.append({"role": role, "content": kept})

    def _check_paired(self, where: str) -> None:
        if self._open:
            raise Untranslatable(
                f"'{where}': expected a result of each tool call before it; one of '{self._open_at}' has none", param=where
            )


def _is_blank(text: str) -> bool:
    return not text or text.isspace()
