"""The stages of dvc.yaml, one program each."""
