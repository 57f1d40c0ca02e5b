"""Graphs made faster without other answers: folded, executed by torch, in mixed precision, quantised."""
