"""Class centres over one process or many: who holds which, which of them a step looks at, and what they cost."""
