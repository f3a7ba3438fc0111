"""Service calls: parsing them from an answer, comparing them by their effect, judging them."""
