"""Same answers, proved: aligned faces, drift between engines, error rates on labelled sets, and the gates."""
