"""What every test may rely on."""

import signal

# A shell that starts a job in the background has it ignore SIGINT, and children inherit that. The
# tests of interruption send it to children, so here it is what it is in the foreground.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
