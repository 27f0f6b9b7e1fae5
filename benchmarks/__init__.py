"""What fdproof costs, against C and against what one would use instead; ``python -m benchmarks`` prints it."""
