"""Who is in the pool: sources of endpoints, each of which tells an `EndpointSink` the whole pool whenever it changes.

Knows nothing of how the members are doing (scraping) and of who listens. A source that fails keeps the last pool it
knew: an empty pool is only ever told when the source says that it is empty.
"""
