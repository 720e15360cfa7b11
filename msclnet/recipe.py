"""The number of the recipe: what decides a training's result apart from its parameters and its data."""

# Raise it by one in the commit after which the same parameters and data give other weights. Checkpoints of another
# recipe are not resumed from, and records of another recipe are not taken for finished.
RECIPE = 1
