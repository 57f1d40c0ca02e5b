"""What is in a frame: faces found, followed, aligned and embedded."""
