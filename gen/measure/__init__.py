"""Area and clock, by synthesis and by place and route."""
