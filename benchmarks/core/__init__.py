"""What all measurements share: interleaved turns, limits, targets, growth."""
