"""One module for each target; `tests.fuzz.target.SHARES` lists them."""
