"""``python -m stockade.cli``."""

from stockade.cli import main

if __name__ == "__main__":
    main()
