"""One image through a task."""
