"""The commands other than `negrl run`. They parse and call; each imports what it needs when it is called."""
