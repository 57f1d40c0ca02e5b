"""dlib's pretrained networks without dlib: read from their own files, written as ONNX graphs."""
