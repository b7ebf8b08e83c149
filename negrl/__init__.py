"""negrl: fine-tune reasoning models on their own wrong answers as well as their right ones."""

__version__ = "0.1.0"
