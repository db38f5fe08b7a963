"""What all of gen needs and nothing of Systolith's subject: errors, files, progress."""
