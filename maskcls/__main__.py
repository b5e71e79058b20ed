"""Entry point of the command line: `python -m maskcls <command> key=value …`."""

from maskcls.cli.main import main

if __name__ == "__main__":
    main()
