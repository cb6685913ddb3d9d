"""What a registry says of models, asked for and remembered: one round for all endpoints, one question a model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from typing import Final, TypeVar

from extproc.app.registry.client import AskFailed, NotThere, RegistryClient
from extproc.observability.registry import RegistryMetrics
from extproc.registry.known import MISSING, Asked, Known, Model, asked_for
from extproc.registry.references import Reference

AT_ONCE: Final = 4
"""Models."""
Answer = TypeVar("Answer")


class Asking:
    """The last word of the registry on each model. One event loop."""

    def __init__(self, client: RegistryClient, metrics: RegistryMetrics) -> None:
        self._client = client
        self._metrics = metrics
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.known = Known()
        self.trouble = ""
        """Why it could not be asked last time; '' when it could."""

    async def ask(self, references: Collection[Reference], beside: Collection[Reference] = ()) -> None:
        """Ask about the models of these. What is not answered stays as it was, and `trouble` says why. Raises nothing.

        `beside`: what else is to be known of the same models.
        """
        names = {reference.name for reference in references}
        models = asked_for([*references, *(each for each in beside if each.name in names)])
        failures = await asyncio.gather(*(self._one(name, asked) for name, asked in models.items()))
        self.trouble = next((failure for failure in failures if failure), "")
        if self.trouble:
            self._metrics.up.value = 0.0
        else:
            self._metrics.answered()

    def age_s(self) -> float | None:
        """Seconds since it last answered all that it was asked."""
        return self._metrics.age_s()

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    async def _one(self, name: str, asked: Asked) -> str:
        """Learn of one model. Why not, '' when it was learnt."""
        async with self._slots:
            try:
                model = await self._model(name, asked)
            except AskFailed as error:
                self._metrics.requests.child(error.kind).value += 1
                return str(error)
        self.known = self.known.with_model(name, model)
        return ""

    async def _model(self, name: str, asked: Asked) -> Model:
        """Raises AskFailed."""
        aliases = await self._answer(self._client.aliases(name))
        if aliases is None:
            return MISSING
        numbers = asked.numbers(aliases)
        return Model(aliases, {number: await self._answer(self._client.version(name, number)) for number in numbers})

    async def _answer(self, question: Awaitable[Answer]) -> Answer | None:
        """None: there is no such thing. Raises AskFailed."""
        try:
            answer = await question
        except NotThere:
            self._metrics.requests.child("absent").value += 1
            return None
        self._metrics.requests.child("ok").value += 1
        return answer
