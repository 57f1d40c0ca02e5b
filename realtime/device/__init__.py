"""Frames of many cameras on one device: landmarks, alignment, embedding and names without a way back to the host."""
