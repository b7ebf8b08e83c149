"""Running a labeler: its asks become batches of rollouts, what came of them goes back to it."""
