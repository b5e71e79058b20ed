"""One module per subcommand: parse arguments, call one function, print."""
