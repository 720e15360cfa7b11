"""The trained network for other runtimes: ONNX, OpenVINO, and folded batch norms."""
