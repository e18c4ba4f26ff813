"""What other libraries do differently from the paper: `table` has the knobs, `presets` the
libraries by name."""
