"""What is known about prompts that endpoints have seen: `prompt`, `hashing`, `index`.

This package imports the nouns only, does no I/O and knows no clock. Who feeds it and who asks are plugins.
"""
