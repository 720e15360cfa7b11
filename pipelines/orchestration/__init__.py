"""Runs of the DVC pipeline: in the user's working tree, or isolated as experiments. No Prefect in here."""
