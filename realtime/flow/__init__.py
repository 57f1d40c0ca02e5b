"""Threads, and nothing else."""
