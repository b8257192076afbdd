"""amble: deep neural networks that answer on time with the least energy, and the proof of both."""
