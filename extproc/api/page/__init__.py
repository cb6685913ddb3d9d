"""The page: what the API shows and changes, for people with a browser, below `/ui/` on the API's port.

    site ─ table: which view ─▶ visitor: who looks ─▶ views ─▶ desk, measures ─▶ templates ─ a slice at a time ─▶ HTML
      ╰─ assets: what is vendored, in memory             live ◀─ figures: made once for all open pages

It is the API's sibling: it asks the same desk, for the same callers with the same rights, in this process and never by HTTP.
Pages are whole without scripts; htmx changes a part of one where there are some. Nothing comes from elsewhere, and nothing is
inline, so the Content-Security-Policy allows only what is served here. Jinja2 comes with the extra `serving`.
"""
