"""Frames in, names out: the pipeline that names the people in live video."""

__version__ = "0.1.0"
