"""What is kept of outcomes so that no question has to walk over all of them: roll-ups, and the traces of values."""
