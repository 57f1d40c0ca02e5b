"""The ArcFace paper's toy: faces of a few people on a circle, and pictures of what a margin does."""
