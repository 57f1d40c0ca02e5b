"""What all tests share."""

from __future__ import annotations

import signal
import threading

if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in the background of a script: every program that a test starts and stops with Ctrl-C would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
