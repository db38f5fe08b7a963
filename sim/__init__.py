"""What says whether it is right, and how long it takes."""
