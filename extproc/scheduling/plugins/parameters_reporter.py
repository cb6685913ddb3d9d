"""Parameters of `request-attribute-reporter`, whose expressions are compiled as they are read."""

from __future__ import annotations

from typing import Final

from pydantic import Field, PrivateAttr, field_validator, model_validator

from extproc import names
from extproc.expressions import FIELDS, NUMBER, TRUTH, BadExpression, Expression, Variables, compiled
from extproc.scheduling.plugins.parameters import Parameters

VARIABLES: Final[Variables] = (("usage", FIELDS),)
"""What an expression may name."""


class AttributeKey(Parameters):
    """Where in the dynamic metadata a value goes."""

    namespace: str = Field(names.LB_NAMESPACE, max_length=256)
    """Empty is the default, as upstream has it."""
    name: str = Field(min_length=1, max_length=256)

    @field_validator("namespace")
    @classmethod
    def _default(cls, value: str) -> str:
        return value or names.LB_NAMESPACE


class ReportedAttribute(Parameters):
    """A value, and when it is told."""

    key: AttributeKey
    expression: str
    """Gives a number, of which the integer part is told."""
    condition: str = ""
    """Gives true or false; empty is always."""

    _value: Expression = PrivateAttr()
    _when: Expression | None = PrivateAttr(None)

    @field_validator("expression")
    @classmethod
    def _is_a_number(cls, text: str) -> str:
        _of(text, NUMBER)
        return text

    @field_validator("condition")
    @classmethod
    def _is_a_truth(cls, text: str) -> str:
        if text:
            _of(text, TRUTH)
        return text

    @model_validator(mode="after")
    def _compile(self) -> ReportedAttribute:
        self._value = _of(self.expression, NUMBER)
        self._when = _of(self.condition, TRUTH) if self.condition else None
        return self

    @property
    def value(self) -> Expression:
        """The expression, compiled."""
        return self._value

    @property
    def when(self) -> Expression | None:
        """The condition, compiled; None is always."""
        return self._when


def _of(text: str, gives: str) -> Expression:
    try:
        return compiled(text.strip(), VARIABLES, gives)
    except BadExpression as error:
        raise ValueError(str(error)) from None


class AttributeReporterParameters(Parameters):
    """Parameters of `request-attribute-reporter`."""

    attributes: list[ReportedAttribute] = Field(min_length=1, max_length=1)
    """Exactly one, as upstream has it."""
