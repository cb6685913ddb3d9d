"""A decision as JSON has it."""

from __future__ import annotations

from typing import Any

from extproc.observability.decisions import Answered, DecisionRecord, Outcome
from extproc.traffic.regions import Placed


def _region(placed: Placed | None) -> dict[str, Any]:
    if placed is None:
        return dict.fromkeys(("region", "region_from", "region_reason", "region_cost"))
    return {
        "region": placed.region,
        "region_from": placed.origin,
        "region_reason": placed.reason,
        "region_cost": placed.cost,
    }


def decision_shape(record: DecisionRecord) -> dict[str, Any]:
    """A decision of /debug/decisions."""
    return {
        "at": record.at_s,
        "request_id": record.request_id,
        "model": record.model,
        "target_model": record.target_model or record.model,
        "served_entity": record.entity or None,
        "served_entity_reason": record.entity_reason or None,
        "rule": record.rule or None,
        "experiments": dict(record.experiments),
        "bucket": None if record.bucket < 0 else record.bucket,
        **_region(record.placed),
        "priority": record.priority,
        "pool": record.pool,
        "endpoint": record.endpoint.key,
        "name": record.endpoint.name,
        "fallbacks": list(record.fallbacks),
        "served": record.outcome.served or None,
        "status": record.outcome.status,
        "score": record.score,
        "candidates": record.candidates,
        "signals": record.signals(),
        "reason": record.reason(),
        "took_ms": round(record.took_s * 1e3, 4),
        "config_version": record.version or None,
        "answer": _answer(record.outcome),
    }


def _answer(outcome: Outcome) -> dict[str, Any] | None:
    if not outcome.took_s:
        return None
    answer = outcome.answer or Answered()
    return {
        "took_ms": round(outcome.took_s * 1e3, 1),
        "ttft_ms": None if answer.ttft_s is None else round(answer.ttft_s * 1e3, 1),
        "tpot_ms": None if answer.tpot_s is None else round(answer.tpot_s * 1e3, 2),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
