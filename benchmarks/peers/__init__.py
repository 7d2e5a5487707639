"""numbaconv beside PyTorch, ONNX Runtime, OpenVINO and ncnn, layer by layer, in turn, in one process."""
