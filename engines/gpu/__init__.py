"""What the GPU runtimes share: batch buckets, candidates measured against each other, TensorRT build and sessions."""
