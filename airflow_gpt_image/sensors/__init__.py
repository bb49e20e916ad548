"""The sensor: it waits for generations that somebody else submitted."""
