"""Figures of this project beside figures of something else, from the same run: ``make bench``."""
