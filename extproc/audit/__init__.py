"""What is kept of decisions and of changes, for those who ask later: which config served this request, who moved this user.

    stage ─ lines ─▶ Waiting ─ DecisionWriter, a thread ─▶ decisions.v1.*.jsonl ─ full or old ─▶ .jsonl.zst, .parquet ─▶ deleted
    desk ─ ChangeRecord ─▶ the store, in the commit of the change, or `memory:`'s journal: a chain of hashes
    reader ◀─ `extproc audit`

Nothing here knows requests, endpoints or stores: rows of words and numbers come in, and are found again. It never waits for a
disk where requests are decided, and never makes a change wait for decisions.
"""
