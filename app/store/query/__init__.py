"""What is asked: questions, their conditions as SQL and in Python, and the time they speak of."""
