"""Discovery: lists, files, and files that change."""
