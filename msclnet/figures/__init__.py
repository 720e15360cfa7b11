"""Figures: arrays in, matplotlib figures out. No file is read here."""
