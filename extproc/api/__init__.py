"""The REST API of serving endpoints, as Databricks' and MLflow's clients speak it: HTTP in front of the desk.

    server ─ uvicorn's HTTP ─▶ application ─▶ table: which call ─▶ auth: who asks ─▶ calls ─▶ desk
                                   ╰──────────────── an error of any kind: {"error_code", "message"} ────────╯

Nothing is decided here about endpoints: what is wrong with a change, the desk says. Starlette and uvicorn come with the extra
`serving`.
"""
