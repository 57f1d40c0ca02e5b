"""What ``realtime bench`` is made of: a clip, the truth about it, the loops that run on it, and what they cost."""
