"""Commands: one module each, which parses arguments, calls one function and prints."""
