"""MLflow, and nothing of it anywhere else: runs, metrics, the model registry."""
