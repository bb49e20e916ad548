"""The operators: they submit generations and store images."""
