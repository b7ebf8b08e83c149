"""What the labels cost and how good they are, measured: one module per `negrl bench` command."""
