"""One file a runtime, one contract."""
