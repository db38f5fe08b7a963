"""Random chips, networks and programs, from a seed."""
