"""What makes the data, weights and pictures of the repository: `python -m tools.NAME`."""
