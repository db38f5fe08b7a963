"""What becomes gates, and the specifications that everybody shares."""
