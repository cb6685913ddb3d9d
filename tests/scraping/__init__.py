"""Scraping: pages, engines, fetching, the loop. Real sockets where the wire matters, virtual time where time does."""
