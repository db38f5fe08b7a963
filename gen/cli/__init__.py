"""The command line: `main` runs it, `commands` holds what each command takes and does."""
