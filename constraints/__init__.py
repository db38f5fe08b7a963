"""Pin and clock constraints, one flat file per board, read as data by `systolith.gen`."""
