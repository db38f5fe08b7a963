"""From a Graph to a program for one chip."""
