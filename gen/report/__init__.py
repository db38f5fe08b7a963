"""Reports, tables and pictures of what was built and measured."""
