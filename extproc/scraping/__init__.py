"""How the members of the pool are doing: their pages of metrics, fetched in a loop and read into `Load`.

Knows nothing of discovery, of scheduling or of who listens: endpoints come in by `Scraper.update`, loads go out to a
`LoadSink`, what is counted and logged to a `ScrapeObserver`. Neither logs nor counts by itself.
"""
