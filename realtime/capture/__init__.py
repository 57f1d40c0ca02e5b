"""Frames in: webcams, files, streams, folders of images, the demo."""
