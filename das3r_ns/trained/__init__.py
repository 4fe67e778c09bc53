"""A trained run, opened again: what clean plates, exports and measurements start from."""
