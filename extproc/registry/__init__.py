"""Versions of models as an MLflow registry has them: how they are named, where they are served, what a moved alias means.

    entity_version "@champion" ─▶ Reference ─▶ Known.resolve ─▶ Placing.block ─▶ moves.next_step ─▶ a change, or a rollout
                                                  ▲
                              answers of the registry, read by `answers`

No I/O and no clock: `app/registry` asks, and `control` changes endpoints. Pools and endpoints are names here.
"""
