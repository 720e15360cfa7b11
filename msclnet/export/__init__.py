"""Trained networks made ready for use: one stream alone, faster back ends, and other programs' formats."""
