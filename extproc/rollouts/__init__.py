"""Rollouts: a plan, its state machine, and the statistics that judge a canary against its baseline.

    document ──▶ Plan        Pair (samples of both arms) ─▶ judge ─▶ Verdict, in words
                   │                                          │
                   ╰─────────▶ machine: state × event ─▶ state ◀╯     what is desired follows from the state alone

Pure: time and samples are handed in, and nobody here changes an endpoint. The driver is `app/rollouts.py`.
"""
