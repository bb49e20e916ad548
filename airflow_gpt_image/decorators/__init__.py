"""The TaskFlow decorators: a function says what to draw, an operator does the rest."""
