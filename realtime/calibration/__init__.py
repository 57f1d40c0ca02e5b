"""What ``realtime calibrate`` is made of: a labelled set, its embeddings, the tail of its distances, trial
galleries."""
