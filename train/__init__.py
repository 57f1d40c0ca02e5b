"""From labelled photos to weights and error rates: prepare a set, train with ArcFace's losses, evaluate, export."""
