"""What proves a gradient right."""
