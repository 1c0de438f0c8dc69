"""``python -m leti.cli`` is the `leti` command."""

from leti.cli.start import main

if __name__ == "__main__":
    main()
