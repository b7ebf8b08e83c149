"""`python -m negrl` is `negrl`."""

from negrl.cli import main

if __name__ == "__main__":
    main()
