"""Prints to stdout, at import and when it is asked."""

import modelyard

print("welcome to a chatty plugin")


@modelyard.hookimpl
def modelyard_checks():
    print("chatty again")
    yield from ()
