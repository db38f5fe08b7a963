"""Networks and digits that `systolith demo` needs; the wheel holds these as data, no scripts."""
