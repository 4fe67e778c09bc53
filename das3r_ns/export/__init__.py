"""A trained scene in the formats of other programs."""
