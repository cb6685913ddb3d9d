"""Files that users give us: read within bounds, and watched. Knows nothing of what is in them, nor of requests."""
