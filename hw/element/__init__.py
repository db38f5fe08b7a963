"""Processing elements of all number formats, and columns of them."""
