"""Chip descriptions that come with Systolith."""
